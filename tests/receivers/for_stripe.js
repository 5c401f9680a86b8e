// For Stripe, as integrators have it: the library from npm verifies and parses in one call.
const express = require('express');
const stripe = require('stripe')('sk_test_that_is_not_used');
const app = express();

app.post('/webhook', express.raw({ type: 'application/json', limit: '1mb' }), (req, res) => {
  let event;
  try {
    event = stripe.webhooks.constructEvent(req.body, req.headers['stripe-signature'], process.env.WEBHOOK_SECRET);
  } catch (error) {
    return res.sendStatus(error.type === 'StripeSignatureVerificationError' ? 401 : 500);
  }
  res.sendStatus(event.id.startsWith('evt_') && event.type && event.data.object ? 200 : 422);
});

require('./listen')(app);
