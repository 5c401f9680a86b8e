// For Slack, by its page "Verifying requests from Slack", in Express.
const crypto = require('node:crypto');
const express = require('express');
const app = express();

const FIVE_MINUTES_S = 300;

app.post('/webhook', express.text({ type: 'application/json', limit: '1mb' }), (req, res) => {
  const timestamp = req.headers['x-slack-request-timestamp'];
  if (!(Math.abs(Date.now() / 1000 - Number(timestamp)) <= FIVE_MINUTES_S)) return res.sendStatus(401);
  const base = `v0:${timestamp}:${req.body}`;
  const expected = Buffer.from(`v0=${crypto.createHmac('sha256', process.env.WEBHOOK_SECRET).update(base).digest('hex')}`);
  const given = Buffer.from(req.headers['x-slack-signature'] ?? '');
  const verified = given.length === expected.length && crypto.timingSafeEqual(given, expected);
  res.sendStatus(verified ? 200 : 401);
});

require('./listen')(app);
