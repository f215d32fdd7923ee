/** Requests that end by time or break at different places: smaller chunks and new connections pass where the first ones did not. */
import { readFile } from 'node:fs/promises';
import { createServer, request } from 'node:http';
import { connect as connectTo, createServer as createTcpServer, type Socket } from 'node:net';
import { describe, expect, it, onTestFinished } from 'vitest';
import { randomFrom } from '../../support/random.ts';
import type { ProfileName } from '../../support/registry/profiles.ts';
import { startRegistry } from '../../support/registry/server.ts';
import { listen, timeByHand } from '../helpers/loopback.ts';
import { bytesOf, connect, digestOfBytes, knownBody, MIB, plain } from './client.ts';

const BLOB = bytesOf(12 * MIB + 5, 'breaks');
const DIGEST = digestOfBytes(BLOB);
const REPOSITORY = 'team/app';

async function registryOf(profile: ProfileName) {
  const server = await startRegistry({ profile, minChunk: MIB });
  onTestFinished(() => server.close());
  return server;
}

interface Balancer {
  readonly host: string;
  /** The sizes of the chunks that came. */
  readonly sizes: number[];
}

type Ending = (socket: Socket, answer: (status: number) => void) => void;

/**
 * A load balancer that ends chunks over `limit` bytes in its way, after they were under way for more than a second: the clocks of this
 * process stand still but for that.
 */
async function balancer(target: string, limit: number, end: Ending): Promise<Balancer> {
  const pass = timeByHand();
  const sizes: number[] = [];
  const [hostname, port] = target.split(':');
  const server = createServer((asked, response) => {
    const { method, url: path, headers } = asked;
    const size = Number(headers['content-length'] ?? 0);
    if (method === 'PATCH') sizes.push(size);
    if (size <= limit) {
      const forwarded = request({ hostname, port, method, path, headers }, (answer) => {
        pass(10);
        response.writeHead(answer.statusCode!, answer.headers);
        answer.pipe(response);
      });
      forwarded.on('error', () => asked.socket.destroy());
      asked.on('error', () => forwarded.destroy()).pipe(forwarded);
      return;
    }
    asked
      .on('error', () => {})
      .on('end', () => {
        pass(1100);
        end(asked.socket, (status) =>
          response.writeHead(status, { connection: 'close' }).end('upstream request timeout'),
        );
      })
      .resume();
  });
  return { host: await listen(server), sizes };
}

const reset: Ending = (socket) => socket.resetAndDestroy();

describe('a load balancer that ends requests by time', () => {
  it.each([
    ['504', 'distribution2', (_, answer) => answer(504)],
    ['408', 'zot', (_, answer) => answer(408)],
    ['524', 'serverless', (_, answer) => answer(524)],
    ['502', 'distribution2', (_, answer) => answer(502)],
    ['502', 'zot', (_, answer) => answer(502)],
    ['520', 'distribution3', (_, answer) => answer(520)],
    ['reset', 'distribution2', reset],
    ['reset', 'distribution3', reset],
  ] as [string, ProfileName, Ending][])(
    'by %s before %s: chunks are halved until they pass',
    async (_, profile, end) => {
      const server = await registryOf(profile);
      const { host, sizes } = await balancer(server.host, 3 * MIB, end);
      const { registry, events } = connect(host, { chunkSize: 8 * MIB, maxRetries: 3 });
      onTestFinished(() => registry.close());
      const outcome = await registry.repository(REPOSITORY).uploadBlob(knownBody(BLOB), plain());
      expect(outcome.what).toBe('uploaded');
      expect((await readFile(server.blobPath(DIGEST))).equals(BLOB)).toBe(true);
      expect(Math.max(...sizes.slice(-5))).toBe(2 * MIB);
      expect(sizes.filter((size) => size > 3 * MIB).length).toBeLessThanOrEqual(4);
      const learnt = events.filter(({ type }) => type === 'limit' || type === 'waiting');
      const limits = learnt.filter((event) => event.type === 'limit' && !event.announced);
      expect(limits).toHaveLength(1);
      expect(limits[0]).toMatchObject({ bytes: 2 * MIB });
    },
  );

  it.each([502, 504])('by %i: a blob in one request is sent in chunks then', async (status) => {
    const server = await registryOf('zot');
    const { host, sizes } = await balancer(server.host, 7 * MIB, (_, answer) => answer(status));
    const { registry } = connect(host, { chunkSize: 64 * MIB, maxRetries: 3 });
    onTestFinished(() => registry.close());
    const outcome = await registry.repository(REPOSITORY).uploadBlob(knownBody(BLOB), plain());
    expect(outcome.what).toBe('uploaded');
    expect((await readFile(server.blobPath(DIGEST))).equals(BLOB)).toBe(true);
    expect(sizes).toEqual([6 * MIB + 3, 6 * MIB + 2]);
  });

  it('that lets nothing through ends the push with the input to set', async () => {
    const server = await registryOf('distribution3');
    const { host } = await balancer(server.host, 1000, (_, answer) => answer(504));
    const { registry } = connect(host, { chunkSize: 2 * MIB, maxRetries: 1, maxWait: 2000 });
    onTestFinished(() => registry.close());
    await expect(registry.repository(REPOSITORY).uploadBlob(knownBody(BLOB), plain())).rejects.toMatchObject({
      message: expect.stringMatching(/max-wait: 2 s.*504/),
      remedy: expect.stringMatching(/set chunk-size to less/),
    });
  });
});

/** A middlebox that ends each connection after `limit()` bytes have come on it. */
async function middlebox(
  target: string,
  limit: () => number,
): Promise<{ host: string; broken: () => number; bytes: () => number }> {
  const [host, port] = target.split(':');
  let broken = 0;
  let total = 0;
  const server = createTcpServer((near) => {
    let bytes = 0;
    const most = limit();
    const far = connectTo(Number(port), host);
    near.on('error', () => far.destroy()).on('close', () => far.destroy());
    far.on('error', () => near.destroy()).pipe(near);
    near.on('data', (piece) => {
      bytes += piece.length;
      total += piece.length;
      if (bytes <= most) {
        if (far.write(piece)) return;
        near.pause();
        far.once('drain', () => near.resume());
        return;
      }
      broken += 1;
      near.resetAndDestroy();
      far.destroy();
    });
  });
  return { host: await listen(server), broken: () => broken, bytes: () => total };
}

describe('a middlebox that ends each connection after 5 MiB', () => {
  it.each(['zot', 'distribution2', 'distribution3'] as const)(
    'before %s: each chunk gets a new one',
    async (profile) => {
      const server = await registryOf(profile);
      const { host, broken, bytes } = await middlebox(server.host, () => 5 * MIB);
      const { registry } = connect(host, { chunkSize: 4 * MIB });
      onTestFinished(() => registry.close());
      const outcome = await registry.repository(REPOSITORY).uploadBlob(knownBody(BLOB), plain());
      expect(outcome.what).toBe('uploaded');
      expect((await readFile(server.blobPath(DIGEST))).equals(BLOB)).toBe(true);
      expect(broken()).toBe(1);
      expect(bytes()).toBeLessThan(2 * BLOB.length);
    },
  );

  it('and chunks that are larger than that are halved', async () => {
    const server = await registryOf('zot');
    const { host, broken } = await middlebox(server.host, () => 5 * MIB);
    const { registry } = connect(host, { chunkSize: 8 * MIB });
    onTestFinished(() => registry.close());
    await registry.repository(REPOSITORY).uploadBlob(knownBody(BLOB), plain());
    expect((await readFile(server.blobPath(DIGEST))).equals(BLOB)).toBe(true);
    expect(broken()).toBeLessThanOrEqual(3);
  });
});

describe('connections that break at random places', () => {
  const SEEDS = [1, 2, 3, 4];
  it.each(
    (['distribution2', 'zot', 'distribution3', 'serverless'] as const).flatMap((profile) =>
      SEEDS.map((seed) => [profile, seed] as const),
    ),
  )('before %s, seed %d: smaller chunks pass in the end', async (profile, seed) => {
    const server = await registryOf(profile);
    const random = randomFrom(seed);
    const { host } = await middlebox(server.host, () => Math.round((1.2 + 5 * random()) * MIB));
    const { registry, events } = connect(host, { chunkSize: 8 * MIB, maxRetries: 1 });
    onTestFinished(() => registry.close());
    const outcome = await registry.repository(REPOSITORY).uploadBlob(knownBody(BLOB), plain());
    expect((await readFile(server.blobPath(DIGEST))).equals(BLOB)).toBe(true);
    expect(outcome.bytesResent).toBeLessThan(6 * BLOB.length);
    expect(events.filter((event) => event.type === 'limit' && !event.announced).length).toBeLessThanOrEqual(3);
  });
});
