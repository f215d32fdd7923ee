/** The connections through the environment's proxies: a part of undici of its own, loaded only where there are any. */
import { type Agent, type buildConnector, type Dispatcher, EnvHttpProxyAgent } from 'undici';
import type { Proxies } from './proxy.ts';

/** Agents for every host, through its proxy if there is one. `tls` is for the connections to proxies and, through them, to hosts. */
export function proxiedAgent(
  { http, https, except }: Proxies,
  options: Agent.Options,
  tls: buildConnector.BuildOptions,
): Dispatcher {
  const routes = { httpProxy: http, httpsProxy: https, noProxy: except };
  return new EnvHttpProxyAgent({ ...options, ...routes, connect: tls, requestTls: tls, proxyTls: tls });
}
