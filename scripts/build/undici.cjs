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
  // Only behind a proxy.
  get EnvHttpProxyAgent() {
    withConnect();
    return require('undici/lib/dispatcher/env-http-proxy-agent.js');
  },
  get ProxyAgent() {
    withConnect();
    return require('undici/lib/dispatcher/proxy-agent.js');
  },
};

/** The proxy agents open their tunnels by it; undici's index gives it to all dispatchers in the same way. */
function withConnect() {
  Dispatcher.prototype.connect ??= require('undici/lib/api/api-connect.js');
}
