import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { MediaType } from '../../src/oci/types.ts';
import { writeDockerArchive } from '../support/images.ts';
import { LayoutFolder, tarOf } from '../support/layout.ts';
import { docker } from '../support/real/docker.ts';
import { pullBack } from '../support/real/pull.ts';
import { type DockerRegistry, startDockerRegistry } from '../support/real/registry.ts';
import { describeWith, sharedDocker } from '../support/real/suite.ts';
import { runAction } from '../support/runner.ts';

describeWith(
  ['docker', 'docker-registry', 'skopeo'],
  'what docs/security.md says of a poisoned cache-from image',
  () => {
    let folder: string;
    let registry: DockerRegistry;
    let image: string;
    let reference: string;

    beforeAll(async () => {
      folder = mkdtempSync(join(tmpdir(), 'chunked-push-trust-'));
      registry = await startDockerRegistry();
      reference = `${registry.host}/trust/app:1`;
      const file = join(folder, 'image.tar');
      const { diffIds } = await writeDockerArchive(file, 'app:1', { seed: 'trust', layers: [{ bytes: 50_000 }] });
      image = `docker-archive:${file}`;
      // An image whose config claims the true layer, and whose manifest has another one in its place.
      const lie = new LayoutFolder(join(folder, 'lie'));
      const evil = lie.blob(gzipSync(await tarOf('evil', 1000)), MediaType.ociLayerGzip);
      const config = { architecture: 'amd64', os: 'linux', rootfs: { type: 'layers', diff_ids: diffIds } };
      lie.close(
        lie.document(MediaType.ociManifest, {
          config: lie.blob(Buffer.from(JSON.stringify(config)), MediaType.ociConfig),
          layers: [evil],
        }),
      );
      await runAction({ inputs: { image: `oci:${lie.path}`, tags: `${registry.host}/trust/app:latest` } });
    });

    afterAll(async () => {
      await registry?.stop();
      rmSync(folder, { recursive: true });
    });

    it('the wrong blob is taken, and Docker does not pull that image', async () => {
      expect((await runAction({ inputs: { image, tags: reference } })).errors).toEqual([]);
      await expect(pullBack(reference)).rejects.toThrow(/layers are not those of the config/);
      const engine = await sharedDocker({ version: 'debian', store: 'overlay2' });
      await expect(docker(engine, 'pull', '--quiet', reference)).rejects.toThrow(/layers from manifest|diff|invalid/i);
    });

    it('the true layer is pushed when nothing is believed, in the way that docs/security.md names', async () => {
      const inputs = { image, tags: reference, cache: 'false', 'cache-from': `${registry.host}/trust/app:none` };
      expect((await runAction({ inputs })).errors).toEqual([]);
      await pullBack(reference);
    });
  },
);
