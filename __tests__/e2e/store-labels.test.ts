/**
 * Layers whose media type says something else than their bytes, in Docker's containerd image store: buildah#2374, skopeo#548.
 * `docker push` sends such an image as it lies there, and skopeo copies it likewise; so does this push. What is plain is compressed.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { digestOf, MediaType } from '../../src/oci/types.ts';
import { tarOf } from '../source/fixtures.ts';
import { LayoutFolder } from '../support/layout.ts';
import { type DockerAddress, docker } from '../support/real/docker.ts';
import { run } from '../support/real/processes.ts';
import { pullBack } from '../support/real/pull.ts';
import { type DockerRegistry, startDockerRegistry } from '../support/real/registry.ts';
import { describeWith, sharedDocker } from '../support/real/suite.ts';
import { runAction } from '../support/runner.ts';

describeWith(['docker-trixie', 'docker-registry', 'skopeo'], "labels of layers in Docker's containerd store", () => {
  let engine: DockerAddress;
  let registry: DockerRegistry;
  let folder: string;

  beforeAll(async () => {
    [engine, registry] = await Promise.all([
      sharedDocker({ version: 'trixie', store: 'containerd' }),
      startDockerRegistry(),
    ]);
    folder = mkdtempSync(join(tmpdir(), 'store-labels-'));
  }, 180_000);

  afterAll(async () => {
    if (folder) rmSync(folder, { recursive: true });
    await registry?.stop();
  });

  it.each([
    ['gzip typed as tar', MediaType.ociLayer, gzipSync],
    ['zstd typed as tar', MediaType.ociLayer, zstdCompressSync],
    ["gzip typed as Docker's tar", MediaType.dockerLayer, gzipSync],
    ['tar typed as tar', MediaType.ociLayer, (tar: Buffer) => tar],
  ] as const)('%s', async (name, mediaType, compress) => {
    const tag = `store-labels:${name.replaceAll(/\W/g, '-').toLowerCase()}`;
    const layout = new LayoutFolder(join(folder, tag));
    const tar = await tarOf([{ name: 'file', body: `content of ${name} `.repeat(5000) }]);
    const config = layout.blob(
      Buffer.from(
        JSON.stringify({
          architecture: process.arch === 'arm64' ? 'arm64' : 'amd64',
          os: 'linux',
          rootfs: { type: 'layers', diff_ids: [digestOf(tar)] },
        }),
      ),
      MediaType.ociConfig,
    );
    const bytes = compress(tar);
    const layer = layout.blob(bytes, mediaType);
    layout.close([tag, layout.document(MediaType.ociManifest, { config, layers: [layer] })]);
    await run('tar', ['-cf', join(folder, 'layout.tar'), '-C', layout.path, '.']);
    // The image is there, though this engine can't unpack what is typed as `.tar` and is none.
    await docker(engine, 'load', '--input', join(folder, 'layout.tar')).catch(() => undefined);
    const [image = ''] = (await docker(engine, 'image', 'ls', '--quiet', '--no-trunc', tag)).split('\n');
    expect(image).not.toBe('');
    const reference = `${registry.host}/team/${tag}`;
    for (const way of ['auto', 'save']) {
      const result = await runAction({
        inputs: { image, tags: `${reference}-${way}`, export: way, cache: 'false' },
        env: engine.env,
      });
      expect(result.errors).toEqual([]);
      const pulled = await pullBack(`${reference}-${way}`);
      expect(pulled.diffIds).toEqual([digestOf(tar)]);
      const pushed = pulled.manifest.layers[0]!;
      if (bytes === tar) expect(pushed.mediaType).toBe(MediaType.ociLayerGzip);
      else expect(pushed.digest).toBe(digestOf(bytes));
    }
    await docker(engine, 'image', 'rm', '--force', image);
  });
});
