// The handler of WhatsAble's page. It verifies nothing.
const express = require('express');
const app = express();
app.use(express.json({ limit: '1mb' }));

app.post('/webhook', (req, res) => {
  res.status(200).send('OK');
  const { message_type, labels } = req.body;
  if (message_type === 'document' || message_type === 'image') console.error('would download', req.body.attachment_url);
  if (labels?.includes('support')) console.error('would forward');
});

require('./listen')(app);
