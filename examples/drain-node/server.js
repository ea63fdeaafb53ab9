const { createServer } = require('node:http');
const { Server } = require('node:net');

let draining = false;
const server = createServer((request, response) => {
  if (draining) response.setHeader('Connection', 'close');
  response.end(`generation ${process.env.HOTINIT_GENERATION}\n`);
});
server.listen({ fd: 3 });
process.on('SIGTERM', () => {
  draining = true;
  // Not server.close(): that drops connections that look idle. This one only
  // stops accepting; keepAliveTimeout (5 s) ends the others, and then node ends.
  Server.prototype.close.call(server);
});
