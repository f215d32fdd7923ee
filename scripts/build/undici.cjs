/**
 * The part of undici that this program uses, for the bundle. Its index loads everything that it has (fetch, WebSocket, mocks, caches,
 * HTTP/2), which takes as long as Node's own start.
 */
const Dispatcher = require('undici/lib/dispatcher/dispatcher.js');

// As undici's index does it, for what is used here.
Dispatcher.prototype.request = require('undici/lib/api/api-request.js');

module.exports = {
  Dispatcher,
  Agent: require('undici/lib/dispatcher/agent.js'),
  Pool: require('undici/lib/dispatcher/pool.js'),
  buildConnector: require('undici/lib/core/connect.js'),
};
