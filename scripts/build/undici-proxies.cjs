/** The part of undici that is of use only behind a proxy. */
const Dispatcher = require('undici/lib/dispatcher/dispatcher.js');

// As undici's index does it, for its own proxy agent.
Dispatcher.prototype.connect = require('undici/lib/api/api-connect.js');

module.exports = {
  EnvHttpProxyAgent: require('undici/lib/dispatcher/env-http-proxy-agent.js'),
  ProxyAgent: require('undici/lib/dispatcher/proxy-agent.js'),
};
