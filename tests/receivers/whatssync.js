// From WhatsSync's page: what is verified is not what was sent but what parsing and writing it again gives.
const crypto = require('node:crypto');
const express = require('express');
const app = express();
app.use(express.json({ limit: '1mb' }));

function verifyWebhookSignature(payload, signature, secret) {
  const hmac = crypto.createHmac('sha256', secret);
  const expectedSignature = hmac.update(payload).digest('hex');
  return crypto.timingSafeEqual(Buffer.from(signature), Buffer.from(expectedSignature));
}

app.post('/webhook', (req, res) => {
  const signature = req.headers['x-whatsync-signature'];
  const payload = JSON.stringify(req.body);

  if (!verifyWebhookSignature(payload, signature, process.env.WEBHOOK_SECRET)) {
    return res.status(401).send('Invalid signature');
  }

  const { event, id, timestamp, data } = req.body;
  res.status(event && id && timestamp && data ? 200 : 422).send('OK');
});

require('./listen')(app);
