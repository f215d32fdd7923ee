/** Hundreds of pushes under cuts at random places, from seeds: every blob arrives byte for byte, and little is sent twice. */
import { readFile } from 'node:fs/promises';
import { setImmediate as turn } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { ReadableBlob } from '../../src/blob/blob.ts';
import { bytesOf, connect, digestOfBytes, GrowingBody, KIB, knownBody, plain } from '../registry/upload/client.ts';
import { startFaultProxy } from '../support/fault-proxy/proxy.ts';
import { randomFrom } from '../support/random.ts';
import type { ProfileName } from '../support/registry/profiles.ts';
import { type Registry, startRegistry } from '../support/registry/server.ts';

const CHUNK = 64 * KIB;

/** `kept`: a cut costs at most its chunk. `lost`: the session goes with it, so only the bytes are claimed. */
const PROFILES: Readonly<Partial<Record<ProfileName, 'kept' | 'lost'>>> = {
  plain: 'kept',
  serverless: 'kept',
  distribution3: 'kept',
  quay: 'kept',
  acr: 'kept',
  equalparts: 'kept',
  replicas: 'kept',
  distribution2: 'lost',
  zot: 'lost',
  gitea: 'lost',
  ecr: 'lost',
};

const SEEDS = 30;
const AT_ONCE = 6;

/** Sizes around every edge, and some in between: 0 to six chunks. */
function sizeFrom(random: () => number): number {
  const edges = [0, 1, 2, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 3 * CHUNK + 1];
  const one = Math.floor(random() * edges.length * 2);
  return edges[one] ?? Math.floor(random() * 6 * CHUNK);
}

/** Grows by steps of random length, a turn of the event loop between them. */
function growing(bytes: Buffer, random: () => number): ReadableBlob {
  const body = new GrowingBody(bytes);
  const grow = async () => {
    for (let at = 0; at < bytes.length; at += 1 + Math.floor(random() * CHUNK)) {
      body.grow(at);
      await turn();
    }
    body.end();
  };
  void grow();
  return body;
}

/** Pushes one blob by a seed; gives what is wrong, or undefined. */
async function trouble(server: Registry, seed: number, keeps: boolean): Promise<string | undefined> {
  const random = randomFrom(seed);
  const bytes = bytesOf(sizeFrom(random), `property ${seed}`);
  const cuts = Math.floor(random() * 5);
  const proxy = await startFaultProxy({ target: server.url, seed });
  const { registry } = connect(proxy.host, { chunkSize: CHUNK, maxRetries: cuts + 2 });
  proxy.faults.cutRandomly({ cuts, within: Math.max(1, bytes.length), answersToo: random() < 0.5 });
  try {
    const body = random() < 0.5 ? knownBody(bytes) : growing(bytes, random);
    const repository = `seed/s${seed}`;
    const { bytesResent } = await registry.repository(repository).uploadBlob(body, plain());
    const digest = digestOfBytes(bytes);
    if (!server.blobs(repository).includes(digest)) return 'the blob is not there';
    if (!(await readFile(server.blobPath(digest))).equals(bytes)) return 'the blob has other bytes';
    const { made } = proxy.faults.cuts();
    if (!keeps || bytesResent <= made * CHUNK) return undefined;
    // Three breaks in a row of one small chunk look like a session that takes no more: a new one is tried.
    const sessions = server.requests.filter(
      (one) => one.repository === repository && one.step === 'upload-post',
    ).length;
    if (made >= 3 && sessions === 2 && bytesResent <= made * CHUNK + bytes.length) return undefined;
    return `${bytesResent} bytes were sent again for ${made} cuts`;
  } catch (error) {
    return String(error);
  } finally {
    await registry.close();
    await proxy.close();
  }
}

describe.each(Object.entries(PROFILES))('%s (%s sessions)', (profile, habit) => {
  let server: Registry;

  beforeAll(async () => {
    server = await startRegistry({ profile: profile as ProfileName, minChunk: CHUNK });
  });

  afterAll(() => server?.close());

  it(`${SEEDS} pushes from seeds`, async () => {
    const seeds = Array.from({ length: SEEDS }, (_, index) => index + 1);
    const failures: string[] = [];
    const work = async () => {
      for (let seed = seeds.shift(); seed !== undefined; seed = seeds.shift()) {
        const what = await trouble(server, seed, habit === 'kept');
        if (what !== undefined) failures.push(`seed ${seed}: ${what}`);
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, work));
    expect(failures).toEqual([]);
  });
});
