/** Fuzzing of the whole client: answers made of chance, at chance, and the push still ends in one of two ways. */
import { readFile } from 'node:fs/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { MediaType } from '../../src/oci/types.ts';
import { bytesOf, connect, digestOfBytes, KIB, knownBody } from '../registry/upload/client.ts';
import { answerWith, type Fault } from '../support/fault-proxy/faults.ts';
import { startFaultProxy } from '../support/fault-proxy/proxy.ts';
import { randomFrom } from '../support/random.ts';
import type { ProfileName } from '../support/registry/profiles.ts';
import { type Registry, startRegistry } from '../support/registry/server.ts';
import { quickClock } from './clock.ts';

const CHUNK = 64 * KIB;
const SEEDS = 40;
/** ms */
const DEADLINE = 60_000;

type Random = () => number;

const oneOf = <T>(random: Random, values: readonly T[]): T => values[Math.floor(random() * values.length)]!;

const STATUSES = [
  200, 201, 202, 204, 206, 301, 307, 400, 401, 403, 404, 405, 409, 411, 413, 416, 418, 429, 500, 501, 503,
];
const RANGES = [
  '0-0',
  '0--1',
  '0-65535',
  '0-999999999999',
  'bytes=0-65536',
  '65536-0',
  '-',
  '0-99999999999999999999',
  'é',
];
const LOCATIONS = [
  '/v2/a/blobs/uploads/1',
  '?_state=x',
  '//',
  'http://[',
  'http://169.254.169.254/',
  'ftp://x/',
  ' ',
  '/\u00e9',
];
const WAITS = ['0', '-1', '99999999', 'soon', 'Thu, 01 Jan 1970 00:00:00 GMT', '1e9'];
const CHALLENGES = [
  'Bearer',
  'Basic realm=',
  'Bearer realm="x',
  'Bearer realm="http://169.254.169.254/t"',
  ',,,',
  'Digest x=1',
];
const LENGTHS = ['0', '1', '65536', '99999999999999', '-5', 'many'];
const BODIES = [
  '',
  '{',
  '{"errors":[]}',
  '{"errors":[{"code":5}]}',
  '{"errors":{}}',
  '<html><title>',
  'null',
  '[1,2',
  '\u0000\u001b[31m',
];

/** An answer that nobody would give on purpose. */
function answerBy(random: Random): Fault {
  const headers: Record<string, string> = {};
  const add = (name: string, values: readonly string[]) => {
    // Some values can't be written as a header at all.
    const value = oneOf(random, values);
    if (random() < 0.5 && !/[^\t\x20-\x7e\x80-\xff]/.test(value)) headers[name] = value;
  };
  add('Range', RANGES);
  add('Location', LOCATIONS);
  add('Retry-After', WAITS);
  add('WWW-Authenticate', CHALLENGES);
  add('OCI-Chunk-Min-Length', LENGTHS);
  add('OCI-Chunk-Max-Length', LENGTHS);
  add('Docker-Content-Digest', ['sha256:0', 'md5:1', digestOfBytes(Buffer.from('other'))]);
  const status = oneOf(random, STATUSES);
  const empty = status === 204 || status === 304;
  return answerWith({ status, headers, body: empty ? '' : oneOf(random, BODIES) }, random() < 0.5 ? 'before' : 'after');
}

/** How a push by this seed ended: what is wrong with that is a sentence. */
async function endOf(server: Registry, seed: number): Promise<'pushed' | 'failed' | 'deceived' | (string & {})> {
  const random = randomFrom(seed);
  const repository = `seed/s${seed}`;
  const bytes = bytesOf(Math.floor(random() * 4 * CHUNK), `answers ${seed}`);
  const proxy = await startFaultProxy({ target: server.url, seed });
  const often = random() * 0.4;
  const step = ['blob-head', 'upload-post', 'upload-patch', 'upload-get', 'upload-put', 'manifest-put'] as const;
  proxy.faults.add({
    step,
    times: Number.POSITIVE_INFINITY,
    where: () => random() < often,
    get fault() {
      return answerBy(random);
    },
  });
  const { registry } = connect(proxy.host, { chunkSize: CHUNK, maxRetries: 3, clock: quickClock() });
  const signal = AbortSignal.timeout(DEADLINE);
  try {
    const target = registry.repository(repository);
    await target.uploadBlob(knownBody(bytes), { label: 'the layer', signal });
    const manifest = Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: MediaType.ociManifest, seed }));
    // The manifest is what confirms a push: a registry that lies about a blob is found out there, or by whoever pulls.
    await target.putManifest(manifest, MediaType.ociManifest, '1', signal);
    const lied = !server.blobs(repository).includes(digestOfBytes(bytes));
    if (lied) return 'deceived';
    return (await readFile(server.blobPath(digestOfBytes(bytes)))).equals(bytes) ? 'pushed' : 'other bytes are there';
  } catch (error) {
    if (signal.aborted) return `no end within ${DEADLINE} ms`;
    const { name } = error as Error;
    return /^(RegistryError|UploadError|BlobUnknownError)$/.test(name) ? 'failed' : `an unnamed error: ${error}`;
  } finally {
    await registry.close();
    await proxy.close();
  }
}

describe.each(['plain', 'serverless', 'distribution3', 'ecr'] satisfies ProfileName[])(
  'answers of chance before %s',
  (profile) => {
    let server: Registry;

    beforeAll(async () => {
      server = await startRegistry({ profile, minChunk: CHUNK });
    });

    afterAll(() => server?.close());

    it(`${SEEDS} seeds`, async () => {
      const seeds = Array.from({ length: SEEDS }, (_, index) => index + 1);
      const ends: Record<string, number> = { pushed: 0, failed: 0, deceived: 0 };
      const failures: string[] = [];
      const work = async () => {
        for (let seed = seeds.shift(); seed !== undefined; seed = seeds.shift()) {
          const end = await endOf(server, seed);
          if (end in ends) ends[end]! += 1;
          else failures.push(`seed ${seed}: ${end}`);
        }
      };
      await Promise.all(Array.from({ length: 6 }, work));
      expect(failures).toEqual([]);
      // Both ends are common: neither every push fails, nor does chance go unnoticed.
      expect(ends.pushed).toBeGreaterThan(5);
      expect(ends.failed).toBeGreaterThan(5);
    });
  },
);
