/**
 * The part of undici that this program uses, for the bundle. Its index loads everything that it has (fetch, WebSocket, mocks, caches,
 * HTTP/2), which takes as long as Node's own start.
 */
const Dispatcher = require('undici/lib/dispatcher/dispatcher.js');

// As undici's index does it.
Object.assign(Dispatcher.prototype, require('undici/lib/api/index.js'));

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
