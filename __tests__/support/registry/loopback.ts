/** HTTP servers of the tests: on 127.0.0.1 alone, patient, and gone at once when they are closed. */
import type { Server } from 'node:http';
import type { AddressInfo } from 'node:net';

/** Servers wait for slow bodies as long as a test likes, and keep idle connections for a minute. */
export const PATIENT = { requestTimeout: 0, keepAliveTimeout: 60_000 } as const;

/** Starts to listen on the port, any free one for 0. `close` ends what is still going on. */
export async function listenOnLoopback(server: Server, port = 0): Promise<{ host: string; close(): Promise<void> }> {
  await new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve));
  const close = async () => {
    const closed = new Promise((resolve) => server.close(resolve));
    server.closeAllConnections();
    await closed;
  };
  return { host: `127.0.0.1:${(server.address() as AddressInfo).port}`, close };
}
