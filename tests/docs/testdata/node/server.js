const { createServer } = require('node:http');

createServer((request, response) => response.end('release\n')).listen(8080);
