import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startFaultProxy } from '../support/fault-proxy/proxy.ts';
import { smallRecipe, type WrittenImage, writeDockerArchive } from '../support/images.ts';
import { commandOf } from '../support/real/parts.ts';
import { run } from '../support/real/processes.ts';
import { pullBack } from '../support/real/pull.ts';
import { type DockerRegistry, startDockerRegistry } from '../support/real/registry.ts';
import { describeWith } from '../support/real/suite.ts';
import { startRegistry } from '../support/registry/server.ts';
import { runAction } from '../support/runner.ts';
import { runCommand } from '../support/terminal.ts';

const MIB = 1024 * 1024;

describeWith(['docker-registry', 'skopeo'], 'an image in a file', () => {
  let folder: string;
  let registry: DockerRegistry;
  let image: WrittenImage;
  /** Sources by the transports that skopeo names, as skopeo wrote them. */
  let sources: Readonly<Record<string, string>>;

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'chunked-push-archives-'));
    const docker = join(folder, 'docker.tar');
    image = await writeDockerArchive(docker, 'e2e.example/app:1', smallRecipe('archives'));
    sources = {
      'docker-archive': `docker-archive:${docker}`,
      'oci-archive': `oci-archive:${join(folder, 'oci.tar')}:v1`,
      oci: `oci:${join(folder, 'layout')}:v1`,
    };
    for (const target of [sources['oci-archive']!, sources.oci!]) {
      await run(commandOf('skopeo', 'skopeo'), ['--insecure-policy', 'copy', `docker-archive:${docker}`, target]);
    }
    registry = await startDockerRegistry();
  });

  afterAll(async () => {
    await registry?.stop();
    rmSync(folder, { recursive: true });
  });

  describe.each(['docker-archive', 'oci-archive', 'oci'])('%s', (transport) => {
    it('goes into docker-registry in chunks and comes back the same', async () => {
      const reference = `${registry.host}/files/${transport}:v1`;
      const result = await runAction({ inputs: { image: sources[transport]!, tags: reference, 'chunk-size': '1MiB' } });
      expect(result.errors).toEqual([]);
      const pulled = await pullBack(reference);
      expect(pulled).toMatchObject({ digest: result.outputs.digest, diffIds: image.diffIds });
      expect(result.outputs.imageid).toBe(pulled.configDigest);
      if (transport === 'docker-archive') expect(pulled.configDigest).toBe(image.configDigest);
    });

    it('survives a link that breaks three times', async () => {
      const embedded = await startRegistry();
      const proxy = await startFaultProxy({ target: embedded.host, seed: 5 });
      proxy.faults.cutRandomly({ cuts: 3, within: 6 * MIB });
      try {
        const reference = `${proxy.host}/files/app:v1`;
        const result = await runAction({
          inputs: { image: sources[transport]!, tags: reference, 'chunk-size': '1MiB' },
        });
        expect(result.errors).toEqual([]);
        expect(proxy.faults.cuts().made).toBe(3);
        expect((await pullBack(`${embedded.host}/files/app:v1`)).diffIds).toEqual(image.diffIds);
      } finally {
        await proxy.close();
        await embedded.close();
      }
    });
  });

  it('keeps its own manifest byte for byte', async () => {
    const reference = `${registry.host}/files/bytes:v1`;
    const result = await runAction({ inputs: { image: sources.oci!, tags: reference } });
    const raw = await run(commandOf('skopeo', 'skopeo'), ['inspect', '--raw', sources.oci!]);
    expect((await pullBack(reference)).root.toString()).toBe(raw);
    expect(result.exitCode).toBe(0);
  });
});

it('layers of an archive that are in the cache are sent once, and the manifest when all of them are there', async () => {
  const home = mkdtempSync(join(tmpdir(), 'chunked-push-archives-'));
  const layers = [{ bytes: 12_000_000, content: 'random' as const }, { bytes: 3_000_000 }, { bytes: 100 }];
  await writeDockerArchive(join(home, 'image.tar'), 'app:1', { seed: 'cached', layers });
  try {
    for (const round of ['cold', 'warm', 'warm again']) {
      const registry = await startRegistry();
      const args = [`docker-archive:${join(home, 'image.tar')}`, '--to', `${registry.host}/cached/app:1`];
      const { exitCode, stderr } = await runCommand(args, { env: { HOME: home } });
      expect(exitCode).toBe(0);
      if (round !== 'cold') expect(stderr).toContain('(from the cache)');
      const puts = registry.requests.filter(({ step }) => step === 'upload-put' || step === 'manifest-put');
      expect(puts.map(({ step, status }) => `${step} ${status}`)).toEqual([
        ...Array.from({ length: 4 }, () => 'upload-put 201'),
        'manifest-put 201',
      ]);
      await registry.close();
    }
  } finally {
    rmSync(home, { recursive: true });
  }
});
