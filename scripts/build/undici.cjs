/**
 * The part of undici that this program uses, for the bundle. Its index loads everything that it has (fetch, WebSocket, mocks, caches,
 * HTTP/2), which takes as long as Node's own start.
 */
const Dispatcher = require('undici/lib/dispatcher/dispatcher.js');

// As undici's index does it, for what is used here and by its own proxy agent.
Object.assign(Dispatcher.prototype, {
  request: require('undici/lib/api/api-request.js'),
  connect: require('undici/lib/api/api-connect.js'),
});

module.exports = {
  Dispatcher,
  Agent: require('undici/lib/dispatcher/agent.js'),
  Pool: require('undici/lib/dispatcher/pool.js'),
  buildConnector: require('undici/lib/core/connect.js'),
  // Only behind a proxy.
  get EnvHttpProxyAgent() {
    return require('undici/lib/dispatcher/env-http-proxy-agent.js');
  },
  get ProxyAgent() {
    return require('undici/lib/dispatcher/proxy-agent.js');
  },
};
