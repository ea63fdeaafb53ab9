const { createServer } = require('node:http');

createServer((request, response) => {
  response.end(`generation ${process.env.HOTINIT_GENERATION}\n`);
}).listen(Number(process.env.PORT), '127.0.0.1');
