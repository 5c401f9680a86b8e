// The asymmetric signatures of Standard Webhooks: a public key for WEBHOOK_SECRET, verified by Node alone.
const crypto = require('node:crypto');
const express = require('express');
const app = express();

const TOLERANCE_S = 300;
const x = Buffer.from(process.env.WEBHOOK_SECRET.replace(/^whpk_/, ''), 'base64').toString('base64url');
const key = crypto.createPublicKey({ key: { kty: 'OKP', crv: 'Ed25519', x }, format: 'jwk' });

app.post('/webhook', express.raw({ type: 'application/json', limit: '1mb' }), (req, res) => {
  const { 'webhook-id': id, 'webhook-timestamp': timestamp, 'webhook-signature': signatures } = req.headers;
  if (!(Math.abs(Date.now() / 1000 - Number(timestamp)) <= TOLERANCE_S)) return res.sendStatus(401);
  const content = Buffer.concat([Buffer.from(`${id}.${timestamp}.`), req.body]);
  const verified = signatures.split(' ').some((one) => {
    const [version, signature] = one.split(',');
    return version === 'v1a' && crypto.verify(null, content, key, Buffer.from(signature, 'base64'));
  });
  res.sendStatus(verified ? 200 : 401);
});

require('./listen')(app);
