// From AIsoule's page, in Node: the hex HMAC of the raw body, keyed with the secret's text; exactly 200.
const crypto = require('node:crypto');
const express = require('express');
const app = express();
app.use(express.raw({ type: 'application/json', limit: '1mb' }));

app.post('/webhook', (req, res) => {
  const expected = crypto.createHmac('sha256', process.env.WEBHOOK_SECRET).update(req.body).digest();
  const given = Buffer.from(req.get('X-Webhook-Signature') ?? '', 'hex');
  if (given.length !== expected.length || !crypto.timingSafeEqual(given, expected)) return res.sendStatus(401);
  const { event, timestamp, data } = JSON.parse(req.body);
  res.sendStatus(event && timestamp && data ? 200 : 422);
});

require('./listen')(app);
