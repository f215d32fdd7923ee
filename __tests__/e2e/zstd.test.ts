import { afterAll, beforeAll, expect, it } from 'vitest';
import { MediaType } from '../../src/oci/types.ts';
import { dockerPull } from '../support/real/docker.ts';
import { startPodman } from '../support/real/podman.ts';
import { pullBack } from '../support/real/pull.ts';
import { type DockerRegistry, startDockerRegistry } from '../support/real/registry.ts';
import { describeWith, sharedDocker } from '../support/real/suite.ts';
import { type ActionRun, runAction } from '../support/runner.ts';
import { ENGINES, type EngineWithImage } from './engine-images.ts';
import { metadataOf } from './results.ts';

const IMAGE = 'e2e.example/zstd/app:1';
const RECIPE = {
  seed: 'zstd',
  layers: [{ bytes: 5_000_000, content: 'text' as const }, { bytes: 200_000 }, { bytes: 1 }],
};

describeWith(['docker', 'docker-trixie', 'podman', 'docker-registry', 'skopeo'], 'compression: zstd', () => {
  let engine: EngineWithImage;
  let registry: DockerRegistry;
  let reference: string;
  let result: ActionRun;

  beforeAll(async () => {
    registry = await startDockerRegistry();
    reference = `${registry.host}/zstd/app:1`;
    engine = await ENGINES[0]!.start(IMAGE, RECIPE);
    result = await runAction({ inputs: { image: IMAGE, tags: reference, compression: 'zstd' }, env: engine.env });
  });

  afterAll(async () => {
    await registry?.stop();
  });

  it('gives OCI layers of that media type, which skopeo takes apart', async () => {
    expect(result.errors).toEqual([]);
    const pulled = await pullBack(reference);
    expect(pulled.digest).toBe(result.outputs.digest);
    expect(pulled.configDigest).toBe(engine.imageId);
    expect(pulled.manifest.mediaType).toBe(MediaType.ociManifest);
    expect(new Set(pulled.manifest.layers.map(({ mediaType }) => mediaType))).toEqual(
      new Set([MediaType.ociLayerZstd]),
    );
  });

  it('is smaller than gzip, and a push of the other compression does not take its blobs', async () => {
    const gzip = await runAction({ inputs: { image: IMAGE, tags: reference.replace(':1', ':gzip') }, env: engine.env });
    expect(gzip.errors).toEqual([]);
    const size = (run: ActionRun) => metadataOf(run).blobs.reduce((sum, blob) => sum + blob.size, 0);
    expect(size(result)).toBeLessThan(size(gzip));
    const types = metadataOf(gzip).blobs.map(({ mediaType }) => mediaType);
    expect(types).not.toContain(MediaType.ociLayerZstd);
  });

  it('is pulled by Docker 26 with the containerd image store', async () => {
    const other = await sharedDocker({ version: 'trixie', store: 'containerd' });
    // This store shows the manifest's digest as the image's ID.
    expect(await dockerPull(other, reference)).toBe(result.outputs.digest);
  });

  it('is pulled by podman', async () => {
    const podman = await startPodman();
    await podman.run('pull', '--quiet', '--tls-verify=false', reference);
    expect((await podman.run('image', 'inspect', '--format', '{{.Id}}', reference)).trim()).toBe(
      engine.imageId.slice(7),
    );
    await podman.stop();
  });

  it('is not pulled by Docker 20, as docs/usage.md says', async () => {
    // With its own layers gone it has to read ours.
    await engine.run('image', 'rm', '--force', IMAGE);
    await expect(engine.run('pull', '--quiet', reference)).rejects.toThrow(
      /failed to register layer|unexpected|invalid|tar/i,
    );
  });
});
