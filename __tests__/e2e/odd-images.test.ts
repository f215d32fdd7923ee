import { execFileSync } from 'node:child_process';
import {
  closeSync,
  ftruncateSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { afterAll, beforeAll, beforeEach, expect, it } from 'vitest';
import { type Descriptor, digestOf, type Index, MediaType } from '../../src/oci/types.ts';
import { LayoutFolder, tarOf } from '../support/layout.ts';
import { type DockerAddress, dockerPull } from '../support/real/docker.ts';
import { commandOf } from '../support/real/parts.ts';
import { run } from '../support/real/processes.ts';
import { pullBack } from '../support/real/pull.ts';
import { type DockerRegistry, startDockerRegistry } from '../support/real/registry.ts';
import { describeWith, sharedDocker } from '../support/real/suite.ts';
import { ACTION_VARIABLE, type ActionRun, runAction } from '../support/runner.ts';

/** Images as public bug reports have them, pushed and pulled back by clients that are not ours. */
describeWith(['docker-registry', 'skopeo', 'docker'], 'odd images', () => {
  let folder: string;
  let registry: DockerRegistry;
  let engine: DockerAddress;
  let layout: LayoutFolder;
  let layer: Buffer;
  let reference: string;
  let count = 0;

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'chunked-push-odd-'));
    registry = await startDockerRegistry();
    engine = await sharedDocker({ version: 'debian', store: 'overlay2' });
    layer = await tarOf('data', 300_000);
  });
  afterAll(async () => {
    await registry?.stop();
    rmSync(folder, { recursive: true });
  });
  beforeEach(() => {
    count += 1;
    // A repository of its own each time: what lies in another one can't stand for what was not pushed.
    reference = `${registry.host}/odd/app${count}:v1`;
    layout = new LayoutFolder(join(folder, `layout${count}`));
  });

  const push = (image: string, inputs: Readonly<Record<string, string>> = {}): Promise<ActionRun> =>
    runAction({ inputs: { image, tags: reference, ...inputs } });
  const skopeo = (...args: readonly string[]) =>
    run(commandOf('skopeo', 'skopeo'), ['--insecure-policy', ...args], {
      env: { PATH: process.env.PATH, HOME: folder },
    });
  const json = (value: unknown): Buffer => Buffer.from(JSON.stringify(value));
  const write = (...manifests: object[]): string => {
    writeFileSync(join(layout.path, 'index.json'), json({ schemaVersion: 2, manifests }));
    return `oci:${layout.path}`;
  };
  const configOf = (tar: Buffer): Buffer =>
    json({ architecture: 'amd64', os: 'linux', config: {}, rootfs: { type: 'layers', diff_ids: [digestOf(tar)] } });

  /** Writes the folder of a docker-archive. */
  function archiveFolder(bytes: Buffer, tar: Buffer): string {
    const path = join(folder, `archive${count}`);
    mkdirSync(join(path, 'l'), { recursive: true });
    const config = configOf(tar);
    const name = `${digestOf(config).slice(7)}.json`;
    writeFileSync(join(path, name), config);
    writeFileSync(join(path, 'l/layer.tar'), bytes);
    writeFileSync(join(path, 'manifest.json'), json([{ Config: name, RepoTags: ['x:1'], Layers: ['l/layer.tar'] }]));
    return path;
  }
  const archive = (bytes: Buffer, tar: Buffer, ...options: readonly string[]): string => {
    const path = join(folder, `${count}.tar`);
    execFileSync('tar', [...options, '-C', archiveFolder(bytes, tar), '-cf', path, '.']);
    return path;
  };
  const tool = (command: string, bytes: Buffer) => execFileSync(command, ['-c'], { input: bytes, maxBuffer: 2 ** 28 });

  // skopeo copy and docker push send such a layer byte for byte; Docker and skopeo unpack it by its first bytes.
  it.each([
    ['gzip', (bytes: Buffer) => gzipSync(bytes), MediaType.ociLayer, MediaType.ociConfig, MediaType.ociManifest],
    [
      'zstd',
      (bytes: Buffer) => zstdCompressSync(bytes),
      MediaType.ociLayer,
      MediaType.ociConfig,
      MediaType.ociManifest,
    ],
    [
      'gzip',
      (bytes: Buffer) => gzipSync(bytes),
      MediaType.dockerLayer,
      MediaType.dockerConfig,
      MediaType.dockerManifest,
    ],
  ] as const)(
    'a layer of %s bytes typed as a plain tar goes as it is',
    async (format, compress, type, config, manifest) => {
      const bytes = compress(layer);
      const image = layout.document(manifest, {
        config: layout.blob(configOf(layer), config),
        layers: [layout.blob(bytes, type)],
      });
      const result = await push(write(image));
      expect(result.errors).toEqual([]);
      const pulled = await pullBack(reference);
      expect(pulled).toMatchObject({ digest: image.digest, diffIds: [digestOf(layer)] });
      expect(pulled.manifest.layers[0]!.digest).toBe(digestOf(bytes));
      if (format === 'gzip') expect(await dockerPull(engine, reference)).toBe(digestOf(configOf(layer)));
    },
  );

  it('a layer that is compressed, and plain by its config, reaches no tag', async () => {
    const bytes = gzipSync(layer);
    const config = layout.blob(configOf(bytes), MediaType.ociConfig);
    const image = layout.document(MediaType.ociManifest, { config, layers: [layout.blob(bytes, MediaType.ociLayer)] });
    const result = await push(write(image));
    expect(result.errors.join()).toContain("is compressed (gzip), and the image's config says that it is not");
    await expect(pullBack(reference)).rejects.toThrow();
  });

  // docker load and skopeo copy accept both.
  it.each(['xz', 'bzip2'])('layers in %s are pushed in gzip', async (command) => {
    const result = await push(`docker-archive:${archive(tool(command, layer), layer)}`);
    expect(result.errors).toEqual([]);
    const pulled = await pullBack(reference);
    expect(pulled.diffIds).toEqual([digestOf(layer)]);
    expect(pulled.manifest.layers[0]!.mediaType).toMatch(/tar\+gzip$/);
    expect(await dockerPull(engine, reference)).toBe(digestOf(configOf(layer)));
  });

  it.each(['xz', 'bzip2', 'pzstd'])('archives in %s', async (command) => {
    const packed = join(folder, `${count}.packed`);
    const tar = readFileSync(archive(layer, layer));
    writeFileSync(
      packed,
      command === 'pzstd'
        ? Buffer.concat([tar.subarray(0, 999), tar.subarray(999)].map((part) => zstdCompressSync(part)))
        : tool(command, tar),
    );
    expect((await push(`docker-archive:${packed}`)).errors).toEqual([]);
    expect((await pullBack(reference)).diffIds).toEqual([digestOf(layer)]);
  });

  // docker load and skopeo accept PAX, skopeo the old format too.
  it.each(['--format=posix', '--format=gnu'])('an archive packed again by tar -S %s', async (format) => {
    const tar = holed();
    const path = archiveFolder(tar, tar);
    const file = openSync(join(path, 'l/layer.tar'), 'w');
    ftruncateSync(file, tar.length);
    for (let at = 0; at < tar.length; at += 4096) {
      const block = tar.subarray(at, at + 4096);
      if (block.some((byte) => byte !== 0)) writeSync(file, block, 0, block.length, at);
    }
    closeSync(file);
    const packed = join(folder, `${count}.tar`);
    execFileSync('tar', ['-S', format, '-C', path, '-cf', packed, '.']);
    expect((await push(`docker-archive:${packed}`)).errors).toEqual([]);
    expect((await pullBack(reference)).diffIds).toEqual([digestOf(tar)]);
  });

  /** A layer with a file of 3 MiB of zeros. */
  function holed(): Buffer {
    const source = join(folder, `source${count}`);
    mkdirSync(source);
    writeFileSync(join(source, 'zeros'), Buffer.alloc(3 << 20));
    writeFileSync(join(source, 'text'), 'text');
    return execFileSync('tar', ['-C', source, '-cf', '-', '.'], { maxBuffer: 2 ** 28 });
  }

  // What nix's streamLayeredImage is piped into; skopeo copy docker-archive:/dev/stdin does the same.
  it.each([
    ['cat ARCHIVE | CLI docker-archive:- --to REF'],
    ['cat ARCHIVE | CLI docker-archive:/dev/stdin --to REF'],
    ['gzip -c ARCHIVE | CLI docker-archive:- --to REF'],
    ['CLI docker-archive:- --to REF < ARCHIVE'],
    ['CLI docker-archive:<(cat ARCHIVE) --to REF'],
    ['cat ARCHIVE | CLI docker-archive:-:x:1 --to REF'],
  ])('%s', async (line) => {
    const root = process.env[ACTION_VARIABLE] ?? fileURLToPath(new URL('../../', import.meta.url));
    const cli = `${process.execPath} ${join(root, 'dist/cli.js')}`;
    const command = line.replace('CLI', cli).replace('ARCHIVE', archive(layer, layer)).replace('REF', reference);
    await run('bash', ['-c', `${command} --no-cache`], { env: { PATH: process.env.PATH, HOME: folder } });
    expect((await pullBack(reference)).diffIds).toEqual([digestOf(layer)]);
  });

  // crane push --index pushes what index.json lists as one index.
  it('platforms that index.json lists itself are one index, or chosen', async () => {
    const images = [await layout.image('amd64'), await layout.image('arm64')];
    const image = write(...images);
    const result = await push(image);
    expect(result.errors).toEqual([]);
    const { root, digest } = await pullBack(reference);
    const index = JSON.parse(root.toString()) as Index;
    expect(index.manifests.map((one: Descriptor) => one.digest)).toEqual(images.map((one) => one.digest));
    expect(result.outputs.digest).toBe(digest);
    await skopeo('copy', '--all', '--src-tls-verify=false', `docker://${reference}`, `dir:${join(folder, 'all')}`);
    expect(await dockerPull(engine, reference)).toMatch(/^sha256:/);
    expect((await push(image, { platforms: 'linux/arm64' })).outputs.digest).toBe(images[1]!.digest);
  });

  it('what an untrusted layout links to outside of it is not sent', async () => {
    const secret = join(folder, 'secret');
    writeFileSync(secret, 'TOPSECRET '.repeat(2000));
    const bytes = Buffer.alloc(20_000, 'x');
    const config = layout.blob(Buffer.from('{}'), 'application/vnd.oci.empty.v1+json');
    const blob = layout.blob(bytes, 'application/vnd.example');
    const image = layout.document(MediaType.ociManifest, {
      artifactType: 'application/vnd.example',
      config,
      layers: [blob],
    });
    const path = join(layout.path, 'blobs/sha256', blob.digest.slice(7));
    rmSync(path);
    execFileSync('ln', ['-s', secret, path]);
    const result = await push(write(image));
    expect(result.errors.join()).toContain('leads out of the folder, to other bytes');
    expect(result.log).not.toContain('TOPSECRET');
    await expect(pullBack(reference)).rejects.toThrow();
  });
});
