// For Shopify, by its page on delivery through HTTPS, in Express.
const crypto = require('node:crypto');
const express = require('express');
const app = express();

app.post('/webhook', express.raw({ type: 'application/json', limit: '1mb' }), (req, res) => {
  const calculated = crypto.createHmac('sha256', process.env.WEBHOOK_SECRET).update(req.body).digest();
  const given = Buffer.from(req.get('X-Shopify-Hmac-Sha256') ?? '', 'base64');
  const verified = calculated.length === given.length && crypto.timingSafeEqual(calculated, given);
  res.sendStatus(verified ? 200 : 401);
});

require('./listen')(app);
