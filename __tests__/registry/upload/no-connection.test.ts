/** A request for which there is no connection was not sent: it is sent again as it is, and nothing is in doubt. */
import { createServer, connect as dial } from 'node:net';
import { expect, it, onTestFinished } from 'vitest';
import { quickClock } from '../../faults/clock.ts';
import { withHeaders } from '../../support/registry/answer.ts';
import type { Quirk } from '../../support/registry/quirk.ts';
import { startRegistry } from '../../support/registry/server.ts';
import type { Step } from '../../support/registry/steps.ts';
import { listen } from '../helpers/loopback.ts';
import { bytesOf, connect, KIB, knownBody, plain } from './client.ts';

const REPOSITORY = 'team/app';

/** A way to a server that can be shut: connections are then refused. */
async function door(target: () => string) {
  const server = createServer((client) => {
    const behind = dial(Number(target().split(':')[1]));
    client.pipe(behind).pipe(client);
    for (const socket of [client, behind])
      socket
        .on('error', () => {})
        .on('close', () => {
          client.destroy();
          behind.destroy();
        });
  });
  const host = await listen(server);
  let isShut = false;
  return {
    host,
    shut: () => {
      isShut = true;
      server.close();
    },
    open: () => {
      if (!isShut) return;
      isShut = false;
      server.listen(Number(host.split(':')[1]), '127.0.0.1');
    },
  };
}

/** A client of a registry that is not to be reached for a while after its first answer to `step`. */
async function shutAfter(step: Step) {
  let isFirst = true;
  const shuts: Quirk = {
    name: `is away after ${step}`,
    after: (given, { route }) => {
      if (route.step === step && isFirst) {
        isFirst = false;
        way.shut();
      }
      return withHeaders(given, { Connection: 'close' });
    },
  };
  const registry = await startRegistry({ quirks: [shuts] });
  onTestFinished(() => registry.close());
  const way = await door(() => registry.host);
  const retried: string[] = [];
  const clock = quickClock();
  const client = connect(way.host, {
    chunkSize: 256 * KIB,
    clock: {
      ...clock,
      // Every wait is one for the way to be open.
      sleep: (ms, signal) => {
        way.open();
        return clock.sleep(ms, signal);
      },
    },
    onEvent: (event) => {
      if (event.type === 'retry') retried.push(event.reason);
    },
  });
  onTestFinished(() => client.registry.close());
  const steps = () => registry.requests.map((request) => request.step).filter((name) => name !== 'ping');
  return { registry, retried, steps, repository: client.registry.repository(REPOSITORY) };
}

it.each([
  ['a small blob', 30 * KIB, 'upload-post', ['blob-head', 'upload-post', 'upload-put']],
  [
    'the first chunk',
    700 * KIB,
    'upload-post',
    ['blob-head', 'upload-post', ...Array(3).fill('upload-patch'), 'upload-put'],
  ],
  [
    'the next chunk',
    700 * KIB,
    'upload-patch',
    ['blob-head', 'upload-post', ...Array(3).fill('upload-patch'), 'upload-put'],
  ],
] as const)('%s: no session is lost, nothing is asked', async (_, size, step, expected) => {
  const { repository, retried, steps, registry } = await shutAfter(step);
  const outcome = await repository.uploadBlob(knownBody(bytesOf(size)), plain());
  expect(outcome).toMatchObject({ what: 'uploaded', bytesResent: 0 });
  expect(retried.length).toBeGreaterThan(0);
  expect(retried[0]).toContain('ECONNREFUSED');
  expect(steps()).toEqual(expected);
  expect(registry.openSessions()).toBe(0);
});

it('a session that is not needed: it is deleted all the same', async () => {
  const { repository, registry, steps } = await shutAfter('upload-post');
  const bytes = bytesOf(30 * KIB);
  const digest = await registry.addBlob(REPOSITORY, bytes);
  const uploading = repository.uploadBlob(knownBody(bytes), { ...plain(), openWhileAsking: true });
  expect(await uploading).toMatchObject({ what: 'exists', identity: { digest } });
  await expect.poll(steps).toContain('upload-delete');
  await expect.poll(() => registry.openSessions()).toBe(0);
});
