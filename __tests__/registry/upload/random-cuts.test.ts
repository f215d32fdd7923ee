/** Uploads under cuts at random places, from seeds: the registry ends with exactly the right bytes, and little is sent twice. */
import { readFile } from 'node:fs/promises';
import { describe, expect, it } from 'vitest';
import { startFaultProxy } from '../../support/fault-proxy/proxy.ts';
import type { ProfileName } from '../../support/registry/profiles.ts';
import { startRegistry } from '../../support/registry/server.ts';
import { bytesOf, connect, digestOfBytes, GrowingBody, KIB, knownBody, plain } from './client.ts';

const CHUNK = 128 * KIB;
const SIZE = 20 * CHUNK + 4321;
const BYTES = bytesOf(SIZE, 'random cuts');
const CUTS = 4;

/** Whether a cut costs at most the chunk that it fell into: elsewhere the session is lost with it. */
const KEEPS_SESSIONS: Readonly<Record<string, boolean>> = {
  plain: true,
  serverless: true,
  distribution3: true,
  quay: true,
  acr: true,
  distribution2: false,
  zot: false,
  gitea: false,
  ecr: false,
  replicas: false,
  equalparts: true,
};

describe.each(Object.keys(KEEPS_SESSIONS) as ProfileName[])('%s', (profile) => {
  it.each([1, 2, 3, 4, 5, 6])('seed %i', async (seed) => {
    const server = await startRegistry({ profile, minChunk: 64 * KIB });
    const proxy = await startFaultProxy({ target: server.url, seed });
    const { registry } = connect(proxy.host, { chunkSize: CHUNK, maxRetries: CUTS + 1 });
    try {
      proxy.faults.cutRandomly({ cuts: CUTS, within: SIZE, answersToo: true });
      const body = seed % 2 === 0 ? knownBody(BYTES) : growing();
      const outcome = await registry.repository('team/app').uploadBlob(body, plain());
      expect((await readFile(server.blobPath(digestOfBytes(BYTES)))).equals(BYTES)).toBe(true);
      const { made } = proxy.faults.cuts();
      expect(made).toBeGreaterThan(0);
      if (KEEPS_SESSIONS[profile]) expect(outcome.bytesResent).toBeLessThanOrEqual(made * CHUNK);
    } finally {
      await registry.close();
      await proxy.close();
      await server.close();
    }
  });
});

function growing(): GrowingBody {
  const body = new GrowingBody(BYTES);
  let at = 0;
  const timer = setInterval(() => {
    at += 300 * KIB;
    if (at < SIZE) return body.grow(at);
    clearInterval(timer);
    body.end();
  }, 1);
  return body;
}
