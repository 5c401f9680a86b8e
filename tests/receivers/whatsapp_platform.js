// From the WhatsApp API Platform's page: `req.rawBody`, kept by the parser's hook.
const crypto = require('node:crypto');
const express = require('express');
const app = express();
app.use(express.json({ limit: '1mb', verify: (req, res, raw) => { req.rawBody = raw; } }));

function verifySignature(rawBody, signature, secret) {
  const expected = crypto.createHmac('sha256', secret).update(rawBody).digest('hex');
  return crypto.timingSafeEqual(Buffer.from(signature), Buffer.from(expected));
}

app.post('/webhook', (req, res) => {
  const signature = req.headers['x-webhook-signature'];
  const valid = verifySignature(req.rawBody, signature, process.env.WEBHOOK_SECRET);

  if (!valid) return res.status(401).send('Invalid signature');

  const { id, created_at, liveMode, data } = req.body;
  const known = id.startsWith('evt_') && Number.isInteger(created_at) && typeof liveMode === 'boolean' && data.object;
  res.status(known ? 200 : 422).send('OK');
});

require('./listen')(app);
