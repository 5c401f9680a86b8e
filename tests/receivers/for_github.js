// For GitHub, as integrators have it: Octokit's own verification from npm.
const express = require('express');
const { verify } = require('@octokit/webhooks-methods');
const app = express();

app.post('/webhook', express.text({ type: 'application/json', limit: '1mb' }), async (req, res) => {
  const signature = req.headers['x-hub-signature-256'];
  if (!(await verify(process.env.WEBHOOK_SECRET, req.body, signature))) return res.sendStatus(401);
  res.sendStatus(JSON.parse(req.body).type ? 200 : 422);
});

require('./listen')(app);
