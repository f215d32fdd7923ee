/** A client, the fault proxy that it goes through, and a test registry behind that: all of them end with the test. */
import { onTestFinished } from 'vitest';
import type { RegistryOptions } from '../../../src/registry/registry.ts';
import type { Repository } from '../../../src/registry/repository.ts';
import { type FaultProxy, startFaultProxy } from '../../support/fault-proxy/proxy.ts';
import type { FaultRule } from '../../support/fault-proxy/rules.ts';
import {
  type Registry as Server,
  type RegistryOptions as ServerOptions,
  startRegistry,
} from '../../support/registry/server.ts';
import { type Client, connect } from '../upload/client.ts';

export const REPOSITORY = 'team/app';

export interface Proxied {
  readonly server: Server;
  readonly proxy: FaultProxy;
  /** A new client that goes through the proxy, as another process would. */
  connect(options?: Partial<RegistryOptions>): Client & { readonly repository: Repository };
}

/** Starts a registry and a proxy in front of it that makes these faults. */
export async function startProxied(options: ServerOptions, rules: readonly FaultRule[] = []): Promise<Proxied> {
  const server = await startRegistry(options);
  onTestFinished(() => server.close());
  const proxy = await startFaultProxy({ target: server.url });
  onTestFinished(() => proxy.close());
  for (const rule of rules) proxy.faults.add(rule);
  return {
    server,
    proxy,
    connect: (more = {}) => {
      const client = connect(proxy.host, more);
      // What was registered last is done first: the client closes before the proxy, the proxy before the registry.
      onTestFinished(() => client.registry.close());
      return { ...client, repository: client.registry.repository(REPOSITORY) };
    },
  };
}
