import {
  createReadStream,
  createWriteStream,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { createGzip, createZstdCompress } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Descriptor, type Index, MediaType } from '../../src/oci/types.ts';
import { contentOf } from '../support/content.ts';
import { type WrittenImage, writeDockerArchive } from '../support/images.ts';
import { LayoutFolder, tarOf } from '../support/layout.ts';
import { commandOf } from '../support/real/parts.ts';
import { run } from '../support/real/processes.ts';
import { pullBack } from '../support/real/pull.ts';
import { type DockerRegistry, startDockerRegistry } from '../support/real/registry.ts';
import { describeWith } from '../support/real/suite.ts';
import { runAction } from '../support/runner.ts';

describeWith(['docker-registry', 'skopeo'], 'file sources', () => {
  let folder: string;
  let registry: DockerRegistry;
  const at = (name: string) => join(folder, name);
  const skopeo = (...args: readonly string[]) =>
    run(commandOf('skopeo', 'skopeo'), ['--insecure-policy', ...args], {
      env: { PATH: process.env.PATH, HOME: folder },
    });
  const push = (image: string, reference: string, inputs: Readonly<Record<string, string>> = {}) =>
    runAction({ inputs: { image, tags: `${registry.host}/${reference}`, ...inputs } });

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'chunked-push-files-'));
    registry = await startDockerRegistry();
  });

  afterAll(async () => {
    await registry?.stop();
    rmSync(folder, { recursive: true });
  });

  describe('archives that are compressed as a whole', () => {
    let image: WrittenImage;

    beforeAll(async () => {
      const recipe = { seed: 'compressed', layers: [{ bytes: 400_000, content: 'text' as const }, { bytes: 900 }] };
      image = await writeDockerArchive(at('docker.tar'), 'e2e.example/app:1', recipe);
      await skopeo('copy', '--quiet', `docker-archive:${at('docker.tar')}`, `oci-archive:${at('oci.tar')}:v1`);
      for (const name of ['docker.tar', 'oci.tar']) {
        await pipeline(createReadStream(at(name)), createGzip(), createWriteStream(at(`${name}.gz`)));
        await pipeline(createReadStream(at(name)), createZstdCompress(), createWriteStream(at(`${name}.zst`)));
      }
    });

    it.each([
      ['docker-archive', 'docker.tar.gz'],
      ['docker-archive', 'docker.tar.zst'],
      ['oci-archive', 'oci.tar.gz'],
      ['oci-archive', 'oci.tar.zst'],
    ])('%s:%s is pushed and comes back the same', async (transport, name) => {
      const reference = `compressed/${name.replaceAll('.', '-')}:v1`;
      const result = await push(`${transport}:${at(name)}`, reference);
      expect(result.errors).toEqual([]);
      const pulled = await pullBack(`${registry.host}/${reference}`);
      expect(pulled).toMatchObject({ digest: result.outputs.digest, diffIds: image.diffIds });
      expect(result.outputs.imageid).toBe(pulled.configDigest);
    });
  });

  describe('several images in one source', () => {
    const images = new Map<string, Descriptor>();

    beforeAll(async () => {
      const layout = new LayoutFolder(at('several'));
      for (const name of ['one', 'two']) images.set(name, await layout.image(name));
      layout.close(...[...images].map(([name, image]) => [name, image] as const));
      await run('tar', ['-cf', at('several.tar'), '-C', at('several'), '.']);
      await skopeo(
        'copy',
        '--quiet',
        `oci:${at('several')}:one`,
        `docker-archive:${at('tags.tar')}:e2e.example/app:one`,
      );
      await skopeo(
        'copy',
        '--quiet',
        `oci:${at('several')}:two`,
        `docker-archive:${at('two.tar')}:e2e.example/app:two`,
      );
    });

    it.each(['one', 'two'])('oci:DIR:NAME and oci-archive:FILE:NAME choose %s', async (name) => {
      for (const source of [`oci:${at('several')}`, `oci-archive:${at('several.tar')}`]) {
        const result = await push(`${source}:${name}`, `several/${name}:1`);
        expect(result.errors).toEqual([]);
        expect(result.outputs.digest).toBe(images.get(name)!.digest);
      }
      expect((await pullBack(`${registry.host}/several/${name}:1`)).digest).toBe(images.get(name)!.digest);
    });

    it('docker-archive:FILE:NAME:TAG chooses, a name that is not there is told with those that are', async () => {
      expect((await push(`docker-archive:${at('tags.tar')}:e2e.example/app:one`, 'several/archive:1')).errors).toEqual(
        [],
      );
      const [error] = (await push(`docker-archive:${at('tags.tar')}:e2e.example/app:three`, 'several/archive:2'))
        .errors;
      expect(error).toContain('holds no image e2e.example/app:three; it holds e2e.example/app:one');
    });

    it('without a name none of them is guessed', async () => {
      const [error] = (await push(`oci:${at('several')}`, 'several/guess:1')).errors;
      expect(error).toContain('holds several images; it holds one, two');
    });
  });

  describe('artifacts', () => {
    /** A Helm chart as `helm push` stores it: https://helm.sh/docs/topics/registries/#oci-feature-deprecation-and-behavior-changes */
    const chart = async (layout: LayoutFolder): Promise<Descriptor> => {
      const config = layout.blob(
        Buffer.from('{"name":"app","version":"1.2.0"}'),
        'application/vnd.cncf.helm.config.v1+json',
      );
      const content = layout.blob(
        await tarOf('app/Chart.yaml', 5000),
        'application/vnd.cncf.helm.chart.content.v1.tar+gzip',
      );
      return layout.document(MediaType.ociManifest, { config, layers: [content] });
    };

    /** Weights as ORAS stores them: an empty config, files with their names. image-spec manifest.md, "Guidelines for Artifact Usage". */
    const weights = (layout: LayoutFolder, bytes: number): Descriptor => {
      const config = layout.blob(Buffer.from('{}'), 'application/vnd.oci.empty.v1+json');
      const file = layout.blob(
        Buffer.concat([...contentOf('random', 'weights', bytes)]),
        'application/vnd.example.weights.v1.safetensors',
        { annotations: { 'org.opencontainers.image.title': 'model.safetensors' } },
      );
      const readme = layout.blob(Buffer.from('# Model\n'), 'text/markdown');
      const artifactType = 'application/vnd.example.model.v1';
      return layout.document(MediaType.ociManifest, { artifactType, config, layers: [file, readme] });
    };

    /** Fetches with skopeo into a layout, and gives every blob that the manifest names. */
    const fetched = async (reference: string): Promise<{ digest: string; blobs: readonly Buffer[] }> => {
      const target = at(`fetched-${reference.replace(/[^a-z0-9]/g, '-')}`);
      await skopeo(
        'copy',
        '--quiet',
        '--src-tls-verify=false',
        `docker://${registry.host}/${reference}`,
        `oci:${target}:it`,
      );
      const read = (digest: string) => readFileSync(join(target, 'blobs/sha256', digest.slice(7)));
      const index = JSON.parse(readFileSync(join(target, 'index.json'), 'utf8')) as Index;
      const { digest } = index.manifests[0]!;
      const manifest = JSON.parse(read(digest).toString()) as { config: Descriptor; layers: Descriptor[] };
      return { digest, blobs: [manifest.config, ...manifest.layers].map((blob) => read(blob.digest)) };
    };

    it('a Helm chart goes as it is, and skopeo fetches it back', async () => {
      const layout = new LayoutFolder(at('chart'));
      const { digest } = await chart(layout);
      layout.close(['1.2.0', { ...(await chart(layout)) }]);
      const result = await push(`oci:${at('chart')}`, 'charts/app:1.2.0');
      expect(result.errors).toEqual([]);
      expect(result.outputs.digest).toBe(digest);
      const back = await fetched('charts/app:1.2.0');
      expect(back.digest).toBe(digest);
      expect(back.blobs[1]!.equals(await tarOf('app/Chart.yaml', 5000))).toBe(true);
    });

    it('model weights go in chunks, byte for byte, whatever their media type', async () => {
      const layout = new LayoutFolder(at('weights'));
      const manifest = weights(layout, 3_000_000);
      layout.close(['v1', manifest]);
      const result = await push(`oci:${at('weights')}`, 'models/app:v1', { 'chunk-size': '1MiB' });
      expect(result.errors).toEqual([]);
      expect(result.outputs.digest).toBe(manifest.digest);
      const back = await fetched('models/app:v1');
      expect(back.digest).toBe(manifest.digest);
      expect(back.blobs[1]!.equals(Buffer.concat([...contentOf('random', 'weights', 3_000_000)]))).toBe(true);
      expect(registry.openUploads()).toEqual([]);
    });
  });

  it('a file of the same name as a reference is taken as the path that it is', async () => {
    mkdirSync(at('with:colon'));
    const layout = new LayoutFolder(at('with:colon/layout'));
    const image = await layout.image('colon');
    layout.close(image);
    writeFileSync(at('unrelated'), '');
    const result = await push(`oci:${at('with:colon/layout')}`, 'colon/app:1');
    expect(result.errors).toEqual([]);
    expect(result.outputs.digest).toBe(image.digest);
  });
});
