/**
 * Vitest's global setup: keeps a copy of the action as it is now for the whole run, and starts an engine when the first test file asks for it and keeps it for all of them, since test files run
 * in processes of their own and an engine takes a second or two to come up. All of them end with the run.
 */
import { chmodSync } from 'node:fs';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { text } from 'node:stream/consumers';
import type { TestProject } from 'vitest/node';
import { ACTION_VARIABLE, copyAction } from '../runner.ts';
import { type Docker, type DockerOptions, startDocker } from './docker.ts';
import { privateFolder, removeFolder } from './processes.ts';

declare module 'vitest' {
  export interface ProvidedContext {
    /** Where `sharedDocker` asks: the URL of this run's broker. */
    realPartsBroker: string;
  }
}

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const action = privateFolder('action');
  // Also when the run is broken off and nobody calls what this function returns.
  process.once('exit', () => removeFolder(action));
  // Other users run it too: see hosted-user.ts.
  chmodSync(action, 0o755);
  copyAction(action);
  process.env[ACTION_VARIABLE] = action;
  const engines = new Map<string, Promise<Docker>>();
  const server = createServer((request, response) => {
    answer(request, response, engines).catch((error: unknown) => {
      response.writeHead(500).end(error instanceof Error ? error.message : String(error));
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  project.provide('realPartsBroker', `http://127.0.0.1:${(server.address() as AddressInfo).port}`);
  return async () => {
    server.close();
    server.closeAllConnections();
    await Promise.all(
      [...engines.values()].map((starting) =>
        starting.then(
          (engine) => engine.stop(),
          () => undefined,
        ),
      ),
    );
  };
}

const answer = async (request: IncomingMessage, response: ServerResponse, engines: Map<string, Promise<Docker>>) => {
  const options = JSON.parse(await text(request)) as DockerOptions;
  const key = `${options.version}/${options.store}`;
  const starting = engines.get(key) ?? startDocker(options);
  engines.set(key, starting);
  const { stop: _, ...address } = await starting;
  response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(address));
};
