// Verifies with the library from npm.
const http = require('node:http');
const { Webhook, WebhookVerificationError } = require('standardwebhooks');

const webhook = new Webhook(process.env.WEBHOOK_SECRET);

const server = http.createServer((req, res) => {
  const parts = [];
  req.on('data', (part) => parts.push(part));
  req.on('end', () => {
    try {
      webhook.verify(Buffer.concat(parts).toString('utf8'), req.headers);
      res.writeHead(200).end();
    } catch (error) {
      res.writeHead(error instanceof WebhookVerificationError ? 401 : 500).end();
    }
  });
});
server.listen(0, '127.0.0.1', () => console.log('listening on', server.address().port));
