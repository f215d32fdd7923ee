import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { type Descriptor, type Index, type Manifest, MediaType } from '../../src/oci/types.ts';
import { LayoutFolder } from '../support/layout.ts';
import { dockerPull } from '../support/real/docker.ts';
import { commandOf } from '../support/real/parts.ts';
import { startPodman } from '../support/real/podman.ts';
import { run } from '../support/real/processes.ts';
import { pullBack } from '../support/real/pull.ts';
import { type DockerRegistry, startDockerRegistry } from '../support/real/registry.ts';
import { describeWith, sharedDocker } from '../support/real/suite.ts';
import { type ActionRun, runAction } from '../support/runner.ts';
import { ENGINES, type EngineWithImage } from './engine-images.ts';
import { metadataOf } from './results.ts';

const MIB = 1024 * 1024;
const INPUTS = { compression: 'zstd', 'force-compression': 'true' };

const uploaded = (result: ActionRun) => metadataOf(result).blobs.filter(({ what }) => what === 'uploaded');

describeWith(['docker-registry', 'skopeo'], 'force-compression', () => {
  let folder: string;
  let registry: DockerRegistry;
  let layout: LayoutFolder;
  let index: Descriptor;
  let images: readonly Descriptor[];

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'chunked-push-force-'));
    registry = await startDockerRegistry();
    layout = new LayoutFolder(join(folder, 'layout'));
    images = [await layout.image('amd64', { bytes: 4 * MIB }), await layout.image('arm64')];
    const attested = images.map((image) => layout.attestation(image));
    const annotations = { 'org.example/kept': 'yes' };
    index = layout.document(MediaType.ociIndex, { manifests: [...images, ...attested], annotations });
    const config = layout.blob(Buffer.from('{}'), 'application/vnd.oci.empty.v1+json');
    const layers = [layout.blob(Buffer.from('signature'), 'text/plain')];
    const signature = layout.document(MediaType.ociManifest, { config, layers, subject: index });
    layout.close(['v1', index], ['signature', signature]);
  });
  afterAll(async () => {
    await registry?.stop();
    rmSync(folder, { recursive: true });
  });

  const push = (image: string, tags: string, inputs: Readonly<Record<string, string>> = INPUTS) =>
    runAction({ inputs: { image, tags, ...inputs } });
  const raw = async (reference: string): Promise<unknown> =>
    JSON.parse(
      await run(commandOf('skopeo', 'skopeo'), ['inspect', '--raw', '--tls-verify=false', `docker://${reference}`], {
        env: { PATH: process.env.PATH, HOME: folder },
      }),
    );

  /** The manifests under an index, whose configs must be those of the images that were pushed. */
  async function expectForced(reference: string, mediaType: string): Promise<void> {
    const repository = reference.slice(0, reference.lastIndexOf(':'));
    const { manifests, annotations } = (await raw(reference)) as Index;
    expect(annotations).toEqual({ 'org.example/kept': 'yes' });
    expect(manifests.map(({ platform }) => platform)).toEqual(images.map(({ platform }) => platform));
    for (const [position, { digest }] of manifests.entries()) {
      const before = JSON.parse(layout.read(images[position]!.digest).toString()) as Manifest;
      const { config, layers } = (await raw(`${repository}@${digest}`)) as Manifest;
      expect(config).toEqual(before.config);
      expect(layers.map((layer) => layer.mediaType)).toEqual(layers.map(() => mediaType));
    }
    // Takes the layers apart: their bytes must be those of the config's diffIDs.
    await pullBack(reference);
  }

  it('keeps the index, its platforms and configs, and sends nothing the second time', async () => {
    const tag = `${registry.host}/layout/app:1`;
    const first = await push(`oci:${layout.path}:v1`, tag);
    expect(first.errors).toEqual([]);
    expect(first.warnings.join()).toMatch(/signatures and attestations of the old ones are left out \(sha256:/);
    expect(first.warnings).toHaveLength(1);
    await expectForced(tag, MediaType.ociLayerZstd);
    // By what the registry says, as on a fresh runner.
    const again = await push(`oci:${layout.path}:v1`, tag, { ...INPUTS, cache: 'false' });
    expect(again.outputs).toMatchObject({ digest: first.outputs.digest, changed: 'false' });
    expect(uploaded(again)).toEqual([]);
  });

  it('takes an image of a registry, and brings it back to gzip', async () => {
    const [plain, zstd, gzip] = ['plain', 'zstd', 'gzip'].map((name) => `${registry.host}/remote/app:${name}`);
    expect((await push(`oci:${layout.path}:v1`, plain!, {})).outputs.digest).toBe(index.digest);
    expect((await push(`docker://${plain}`, zstd!)).errors).toEqual([]);
    await expectForced(zstd!, MediaType.ociLayerZstd);
    const again = await push(`docker://${plain}`, zstd!, { ...INPUTS, cache: 'false' });
    expect(uploaded(again)).toEqual([]);
    expect((await push(`docker://${zstd}`, gzip!, { 'force-compression': 'true' })).errors).toEqual([]);
    await expectForced(gzip!, MediaType.ociLayerGzip);
  });

  it('refuses a layer whose bytes are not those of its diffID', async () => {
    const other = new LayoutFolder(join(folder, 'other'));
    const image = await other.image('amd64');
    const manifest = JSON.parse(other.read(image.digest).toString()) as Manifest;
    const config = JSON.parse(other.read(manifest.config.digest).toString()) as { rootfs: { diff_ids: string[] } };
    config.rootfs.diff_ids = [`sha256:${'1'.repeat(64)}`];
    const wrong = other.blob(Buffer.from(JSON.stringify(config)), MediaType.ociConfig);
    other.close(['v1', other.document(MediaType.ociManifest, { config: wrong, layers: manifest.layers })]);
    const result = await push(`oci:${other.path}:v1`, `${registry.host}/wrong/app:1`);
    expect(result.exitCode).toBe(1);
    expect(result.errors.join()).toContain('diffID');
  });

  it('without it: what changes nothing is reported once, and the image goes as it is', async () => {
    const result = await push(`oci:${layout.path}:v1`, `${registry.host}/asis/app:1`, { compression: 'zstd' });
    expect(result.outputs.digest).toBe(index.digest);
    expect(result.log.match(/compression: zstd has no effect/g)).toHaveLength(1);
    expect((await push(`oci:${layout.path}:v1`, `${registry.host}/asis/app:2`, {})).log).not.toContain('has no effect');
  });
});

const IMAGE = 'e2e.example/force/app:1';
const RECIPE = { seed: 'force', layers: [{ bytes: 3_000_000, content: 'text' as const }, { bytes: 200_000 }] };

describeWith(
  ['docker-trixie', 'docker-sid', 'podman', 'docker-registry', 'skopeo'],
  'force-compression of an image in the containerd store',
  () => {
    let engine: EngineWithImage;
    let registry: DockerRegistry;
    let reference: string;
    let result: ActionRun;

    beforeAll(async () => {
      registry = await startDockerRegistry();
      reference = `${registry.host}/force/app:1`;
      engine = await ENGINES[1]!.start(IMAGE, RECIPE);
      result = await runAction({ inputs: { image: IMAGE, tags: reference, ...INPUTS }, env: engine.env });
    });
    afterAll(async () => {
      await registry?.stop();
    });

    it('keeps the config, is pulled by skopeo, and sends nothing the second time', async () => {
      expect(result.errors).toEqual([]);
      const asItIs = await runAction({ inputs: { image: IMAGE, tags: `${reference}-gzip` }, env: engine.env });
      const [forced, before] = [await pullBack(reference), await pullBack(`${reference}-gzip`)];
      expect(forced.configDigest).toBe(before.configDigest);
      expect(forced.diffIds).toEqual(before.diffIds);
      expect(forced.digest).not.toBe(asItIs.outputs.digest);
      expect(new Set(forced.manifest.layers.map(({ mediaType }) => mediaType))).toEqual(
        new Set([MediaType.ociLayerZstd]),
      );
      for (const cache of ['true', 'false']) {
        const inputs = { image: IMAGE, tags: reference, ...INPUTS, cache };
        const again = await runAction({ inputs, env: engine.env });
        expect(uploaded(again)).toEqual([]);
        expect(again.outputs.changed).toBe('false');
      }
    });

    it('goes by save too', async () => {
      const tags = `${registry.host}/force/save:1`;
      const saved = await runAction({
        inputs: { image: IMAGE, tags, ...INPUTS, export: 'save', cache: 'false' },
        env: engine.env,
      });
      expect(saved.errors).toEqual([]);
      expect(saved.outputs.digest).toBe(result.outputs.digest);
    });

    it.each(['trixie', 'sid'] as const)('is pulled by Docker of Debian %s', async (version) => {
      const other = await sharedDocker({ version, store: 'containerd' });
      expect(await dockerPull(other, reference)).toBe(result.outputs.digest);
    });

    it('is pulled by podman', async () => {
      const podman = await startPodman();
      await podman.run('pull', '--quiet', '--tls-verify=false', reference);
      expect(`sha256:${(await podman.run('image', 'inspect', '--format', '{{.Id}}', reference)).trim()}`).toBe(
        (await pullBack(reference)).configDigest,
      );
      await podman.stop();
    });
  },
);
