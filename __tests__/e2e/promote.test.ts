import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { type Descriptor, type Digest, type Index, MediaType } from '../../src/oci/types.ts';
import { startFaultProxy } from '../support/fault-proxy/proxy.ts';
import { LayoutFolder } from '../support/layout.ts';
import { commandOf } from '../support/real/parts.ts';
import { run } from '../support/real/processes.ts';
import { pullBack } from '../support/real/pull.ts';
import { type DockerRegistry, startDockerRegistry } from '../support/real/registry.ts';
import { describeWith } from '../support/real/suite.ts';
import { type ActionRun, runAction } from '../support/runner.ts';

const MIB = 1024 * 1024;

describeWith(['docker-registry', 'skopeo'], 'an image in a registry', () => {
  let folder: string;
  let here: DockerRegistry;
  let there: DockerRegistry;
  let index: Descriptor;
  let images: readonly Descriptor[];
  let signature: Descriptor;
  let source: string;

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'chunked-push-promote-'));
    [here, there] = [await startDockerRegistry(), await startDockerRegistry()];
    const layout = new LayoutFolder(join(folder, 'layout'));
    images = [await layout.image('amd64', { bytes: 4 * MIB }), await layout.image('arm64')];
    const attested = images.map((image) => layout.attestation(image));
    index = layout.document(MediaType.ociIndex, { manifests: [...images, ...attested] });
    const config = layout.blob(Buffer.from('{}'), 'application/vnd.oci.empty.v1+json');
    const layers = [layout.blob(Buffer.from('signature'), 'text/plain')];
    signature = layout.document(MediaType.ociManifest, { config, layers, subject: index });
    layout.close(['v1', index], ['signature', signature]);
    source = `${here.host}/staging/app:1`;
    expect((await push(`oci:${layout.path}:v1`, source)).errors).toEqual([]);
  });
  afterAll(async () => {
    await Promise.all([here?.stop(), there?.stop()]);
    rmSync(folder, { recursive: true });
  });

  const push = (image: string, tags: string, inputs: Readonly<Record<string, string>> = {}): Promise<ActionRun> =>
    runAction({ inputs: { image, tags, ...inputs } });
  const promote = (tags: string, inputs: Readonly<Record<string, string>> = {}) =>
    push(`docker://${source}`, tags, inputs);

  const fates = ({ outputs }: ActionRun): ReadonlySet<string> =>
    new Set((JSON.parse(outputs.metadata!) as { blobs: { what: string }[] }).blobs.map(({ what }) => what));

  /** docker-registry 2.8 has no referrers API: the list is under a tag. */
  async function referrersAt(repository: string, subject: Digest): Promise<readonly Digest[]> {
    const list = `docker://${repository}:${subject.replace(':', '-')}`;
    const raw = await run(commandOf('skopeo', 'skopeo'), ['inspect', '--raw', '--tls-verify=false', list], {
      env: { PATH: process.env.PATH, HOME: folder },
    });
    return (JSON.parse(raw) as Index).manifests.map(({ digest }) => digest);
  }

  it('gets another tag in its repository: no byte of a blob moves', async () => {
    const result = await promote(`${here.host}/staging/app:2`);
    expect(result.errors).toEqual([]);
    expect(result.outputs).toMatchObject({ digest: index.digest, changed: 'true' });
    expect(fates(result)).toEqual(new Set(['exists']));
    expect((await pullBack(`${here.host}/staging/app:2`)).digest).toBe(index.digest);
    expect((await promote(`${here.host}/staging/app:2`)).outputs.changed).toBe('false');
  });

  // BuildKit's cache-to type=registry,image-manifest=false.
  it('is an index that names blobs: it goes to another registry byte for byte, and the blobs with it', async () => {
    const layout = new LayoutFolder(join(folder, 'cache'));
    const layer = layout.blob(gzipSync(Buffer.alloc(5_000, 'layer')), MediaType.ociLayerGzip);
    const config = layout.blob(Buffer.from('{"layers":[]}'), 'application/vnd.buildkit.cacheconfig.v0');
    const cache = layout.document(MediaType.ociIndex, { manifests: [layer, config] });
    layout.close(['cache', cache]);
    expect((await push(`oci:${layout.path}:cache`, `${here.host}/team/cache:1`)).errors).toEqual([]);
    const copied = await push(`docker://${here.host}/team/cache:1`, `${there.host}/team/cache:1`);
    expect(copied.errors).toEqual([]);
    expect(copied.warnings).toEqual([]);
    expect(copied.outputs.digest).toBe(cache.digest);
    for (const { digest, size } of [layer, config]) {
      const blob = await fetch(`http://${there.host}/v2/team/cache/blobs/${digest}`);
      expect((await blob.arrayBuffer()).byteLength).toBe(size);
    }
  });

  // distribution takes no URLs unless validation.manifests.urls allows them: it answers 500, over and over.
  it('is refused at once where the registry takes no foreign layers, and what to do is said', async () => {
    const layout = new LayoutFolder(join(folder, 'foreign'));
    const foreign = {
      ...layout.blob(Buffer.from('elsewhere'), MediaType.dockerForeignLayer),
      urls: ['https://a.example/x'],
    };
    const layer = layout.blob(gzipSync(Buffer.alloc(1024)), MediaType.dockerLayerGzip);
    const config = layout.blob(Buffer.from('{"rootfs":{"type":"layers","diff_ids":[]}}'), MediaType.dockerConfig);
    layout.close(['v1', layout.document(MediaType.dockerManifest, { config, layers: [foreign, layer] })]);
    const result = await push(`oci:${layout.path}:v1`, `${there.host}/team/foreign:1`);
    expect(result.exitCode).toBe(1);
    expect(result.errors[0]).toContain(`${there.host}/team/foreign refuses foreign layers`);
    expect(result.errors[0]).toContain(foreign.digest);
    expect(result.errors[0]).toContain('validation.manifests.urls.allow');
    expect(result.log).not.toContain('gave up after');
  });

  it('goes to another repository by mounts, with its attestations and what refers to it', async () => {
    const result = await promote(`${here.host}/production/app:1`);
    expect(result.errors).toEqual([]);
    expect(fates(result)).toEqual(new Set(['mounted']));
    expect((await pullBack(`${here.host}/production/app:1`)).digest).toBe(index.digest);
    expect(await referrersAt(`${here.host}/production/app`, index.digest)).toEqual([signature.digest]);
  });

  // skopeo copy --all is the judge: the same index, byte for byte.
  it('goes to another registry in chunks, and to two repositories of it', async () => {
    const tags = [`${there.host}/production/app:1`, `${there.host}/archive/app:1`];
    const result = await promote(tags.join('\n'), { 'chunk-size': '1MiB' });
    expect(result.errors).toEqual([]);
    const raw = await run(commandOf('skopeo', 'skopeo'), [
      'inspect',
      '--raw',
      '--tls-verify=false',
      `docker://${source}`,
    ]);
    for (const tag of tags) expect((await pullBack(tag)).root.toString()).toBe(raw);
    expect(await referrersAt(`${there.host}/production/app`, index.digest)).toEqual([signature.digest]);
    await run(commandOf('skopeo', 'skopeo'), [
      '--insecure-policy',
      'copy',
      '--all',
      '--src-tls-verify=false',
      `docker://${tags[0]}`,
      `dir:${join(folder, 'all')}`,
    ]);
  });

  it('goes on where reading or sending broke', async () => {
    const [reading, sending] = [
      await startFaultProxy({ target: here.host, seed: 1 }),
      await startFaultProxy({ target: there.host, seed: 2 }),
    ];
    reading.faults.cutRandomly({ cuts: 3, within: 4 * MIB });
    sending.faults.cutRandomly({ cuts: 3, within: 4 * MIB });
    try {
      const tag = `${sending.host}/broken/app:1`;
      const result = await push(`docker://${reading.host}/staging/app:1`, tag, { 'chunk-size': '1MiB' });
      expect(result.errors).toEqual([]);
      expect(sending.faults.cuts().made).toBe(3);
      expect((await pullBack(`${there.host}/broken/app:1`)).digest).toBe(index.digest);
    } finally {
      await Promise.all([reading.close(), sending.close()]);
    }
  });

  it('gives the platforms that are chosen, and says what is not there', async () => {
    const result = await promote(`${there.host}/arm/app:1`, { platforms: 'linux/arm64' });
    expect(result.outputs.digest).toBe(images[1]!.digest);
    const absent = await push(`docker://${here.host}/staging/app:none`, `${there.host}/none/app:1`);
    expect(absent.exitCode).toBe(1);
    expect(absent.errors.join()).toContain(`${here.host}/staging/app:none is not in its registry`);
  });
});
