import { createHash } from 'node:crypto';
import { createWriteStream, mkdtempSync, renameSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { expect, it, onTestFinished } from 'vitest';
import { type Descriptor, type Digest, MediaType } from '../../src/oci/types.ts';
import { contentOf } from '../support/content.ts';
import { startFaultProxy } from '../support/fault-proxy/proxy.ts';
import { LayoutFolder } from '../support/layout.ts';
import { startNginx } from '../support/real/nginx.ts';
import { startDockerRegistry } from '../support/real/registry.ts';
import { describeWith } from '../support/real/suite.ts';
import { runAction } from '../support/runner.ts';
import { metadataOf } from './results.ts';

const MIB = 1024 * 1024;
/** Small enough for every run of the tests; `BIG_COPY_MIB=2048` with limits of 100 MB is what people have. */
const BYTES = Number(process.env.BIG_COPY_MIB ?? 64) * MIB;
const LIMIT_MIB = BYTES > 1000 * MIB ? 100 : 8;
const CUTS = 4;
const MEMORY_LIMIT = 200_000_000;

/** A layer that is never in memory. */
async function largeLayer(layout: LayoutFolder, bytes: number): Promise<Descriptor> {
  const hash = createHash('sha256');
  const path = join(layout.path, 'layer');
  const content = Readable.from(contentOf('random', 'layer', bytes));
  content.on('data', (block: Buffer) => hash.update(block));
  await pipeline(content, createWriteStream(path));
  const hex = hash.digest('hex');
  renameSync(path, join(layout.path, 'blobs/sha256', hex));
  return { mediaType: MediaType.ociLayerGzip, digest: `sha256:${hex}` as Digest, size: bytes };
}

describeWith(['docker-registry', 'nginx'], 'a large image from one registry to another one', () => {
  it('is right after cuts on both sides, behind limits on bodies, in little memory', { timeout: 900_000 }, async () => {
    const folder = mkdtempSync(join(tmpdir(), 'chunked-push-copy-'));
    onTestFinished(() => rmSync(folder, { recursive: true }));
    const layout = new LayoutFolder(join(folder, 'layout'));
    const config = layout.blob(Buffer.from('{"architecture":"amd64","os":"linux"}'), MediaType.ociConfig);
    const image = layout.document(MediaType.ociManifest, { config, layers: [await largeLayer(layout, BYTES)] });
    layout.close(['v1', image]);

    const ends: (() => Promise<void>)[] = [];
    onTestFinished(async () => {
      for (const end of ends.reverse()) await end();
    });
    /** A registry, nginx with its limit before it, and a link that breaks before that. */
    const stand = async (seed: number) => {
      const registry = await startDockerRegistry();
      const nginx = await startNginx({ upstream: registry.host, clientMaxBodySize: `${LIMIT_MIB}m` });
      const link = await startFaultProxy({ target: nginx.host, seed });
      ends.push(
        () => registry.stop(),
        () => nginx.stop(),
        () => link.close(),
      );
      return { registry, nginx, link };
    };
    const [from, to] = [await stand(1), await stand(2)];
    const source = { image: `oci:${layout.path}:v1`, tags: `${from.registry.host}/staging/app:1` };
    expect((await runAction({ inputs: source })).errors).toEqual([]);
    layout.remove();

    const broken = from.link.faults.add({
      step: 'blob-get',
      fault: { kind: 'truncate', after: Math.round(BYTES / (CUTS + 1)) },
      where: ({ path }) => !path.endsWith(config.digest),
      times: CUTS,
    });
    to.link.faults.cutRandomly({ cuts: CUTS, within: BYTES });
    const result = await runAction({
      inputs: { image: `docker://${from.link.host}/staging/app:1`, tags: `${to.link.host}/production/app:1` },
      timeout: 800_000,
    });
    expect(result.errors).toEqual([]);
    expect(result.outputs.digest).toBe(image.digest);
    expect([broken.hits, to.link.faults.cuts().made]).toEqual([CUTS, CUTS]);
    const { bytesSent, bytesResent } = metadataOf(result);
    expect(bytesSent).toBeGreaterThanOrEqual(BYTES);
    expect(bytesResent).toBeLessThanOrEqual(2 * CUTS * LIMIT_MIB * MIB);
    expect(result.peakMemory).toBeLessThan(MEMORY_LIMIT);
    // One request for all of it, and one each time that one broke or bytes were sent again.
    const reads = from.nginx.requests().filter(({ method, uri }) => method === 'GET' && uri.includes('/blobs/'));
    expect(reads.length).toBeLessThanOrEqual(2 + CUTS + 2 * CUTS);
    const served = await fetch(`http://${to.registry.host}/v2/production/app/blobs/${config.digest}`);
    expect(served.status).toBe(200);
  });
});
