// From MessageSync's page: 2xx, deduplicate by the event id in the payload. It names no signature.
const express = require('express');
const app = express();
app.use(express.json({ limit: '1mb' }));
const seen = new Set();

app.post('/webhook', (req, res) => {
  const { id, type, data } = req.body;
  if (!id || !type || data === undefined) return res.status(422).end();
  if (seen.has(id)) return res.status(200).end();
  seen.add(id);
  res.status(202).end();
});

require('./listen')(app);
