// What the Express receivers share: a free port, told on standard output.
module.exports = (app) => {
  // Express would print a page with the stack; Posthaste needs the status alone.
  app.use((error, req, res, next) => res.sendStatus(error.status ?? 500));
  const server = app.listen(0, '127.0.0.1', () => console.log('listening on', server.address().port));
};
