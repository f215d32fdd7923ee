/**
 * The part of undici that this program uses, for the bundle. Its index loads everything that it has (fetch, WebSocket, mocks, caches,
 * HTTP/2), which takes as long as Node's own start.
 */
const Dispatcher = require('undici/lib/dispatcher/dispatcher.js');

module.exports = {
  Dispatcher,
  Agent: require('undici/lib/dispatcher/agent.js'),
  Pool: require('undici/lib/dispatcher/pool.js'),
  buildConnector: require('undici/lib/core/connect.js'),
};
