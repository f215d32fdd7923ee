import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { type Descriptor, digestOf, type Index, type Manifest, MediaType } from '../../src/oci/types.ts';
import { absentDigest, LayoutFolder } from '../support/layout.ts';
import { commandOf } from '../support/real/parts.ts';
import { run } from '../support/real/processes.ts';
import { pullBack } from '../support/real/pull.ts';
import { type DockerRegistry, startDockerRegistry } from '../support/real/registry.ts';
import { describeWith } from '../support/real/suite.ts';
import { type ActionRun, runAction } from '../support/runner.ts';

const fixture = (name: string): string => fileURLToPath(new URL(`../fixtures/${name}.tar`, import.meta.url));

describeWith(['docker-registry', 'skopeo'], 'multi-platform images', () => {
  let folder: string;
  let registry: DockerRegistry;
  let layout: LayoutFolder;
  let amd64: Descriptor;
  let arm64: Descriptor;
  let index: Descriptor;
  let repository = 0;

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'chunked-push-platforms-'));
    registry = await startDockerRegistry();
    layout = new LayoutFolder(join(folder, 'layout'));
    [amd64, arm64] = [await layout.image('amd64'), await layout.image('arm64')];
    const manifests = [amd64, arm64, layout.attestation(amd64), layout.attestation(arm64)];
    index = layout.document(MediaType.ociIndex, { manifests });
    layout.close(['v1', index]);
  });

  afterAll(async () => {
    await registry?.stop();
    rmSync(folder, { recursive: true });
  });

  let reference: string;
  beforeEach(() => {
    // A repository of its own each time: what lies in another one can't stand for what was not pushed.
    repository += 1;
    reference = `${registry.host}/platforms/app${repository}:v1`;
  });

  const push = (image: string, inputs: Readonly<Record<string, string>> = {}): Promise<ActionRun> =>
    runAction({ inputs: { image, tags: reference, ...inputs } });

  const raw = async (name: string): Promise<Buffer> =>
    Buffer.from(
      await run(commandOf('skopeo', 'skopeo'), ['inspect', '--raw', '--tls-verify=false', `docker://${name}`], {
        env: { PATH: process.env.PATH, HOME: folder },
      }),
    );
  const pinned = (digest: string): string => `${reference.replace(/:v1$/, '')}@${digest}`;

  /** Every manifest that an index names is there, and every blob of it can be pulled by skopeo. */
  const namesOf = async (bytes: Buffer): Promise<readonly string[]> => {
    const { manifests } = JSON.parse(bytes.toString()) as Index;
    for (const { digest } of manifests) expect(digestOf(await raw(pinned(digest)))).toBe(digest);
    return manifests.map(({ digest }) => digest);
  };

  it('two platforms with their attestations get the digest that the layout names', async () => {
    const result = await push(`oci:${layout.path}`);
    expect(result.errors).toEqual([]);
    expect(result.outputs.digest).toBe(index.digest);
    const bytes = await raw(reference);
    expect(digestOf(bytes)).toBe(index.digest);
    expect(await namesOf(bytes)).toHaveLength(4);
    for (const { digest } of [amd64, arm64]) expect((await pullBack(pinned(digest))).digest).toBe(digest);
    const all = join(folder, 'all');
    await run(
      commandOf('skopeo', 'skopeo'),
      ['--insecure-policy', 'copy', '--all', '--src-tls-verify=false', `docker://${reference}`, `oci:${all}:v1`],
      { env: { PATH: process.env.PATH, HOME: folder } },
    );
  });

  it("what BuildKit made and Docker 28's containerd store saved gets the digest of docker push", async () => {
    const result = await push(`oci-archive:${fixture('docker28-containerd-multi')}`);
    expect(result.errors).toEqual([]);
    // What `docker push` of this very image gave a registry.
    expect(result.outputs.digest).toBe('sha256:da70e0a0c0a22c76f1791c19d43d9b7dbf0ca675cee9e035634c02800fb51960');
    expect(await namesOf(await raw(reference))).toHaveLength(4);
  });

  it('platforms picks some: a new index of them and their attestations', async () => {
    const extra = await layout.image('riscv64');
    const three = new LayoutFolder(join(folder, 'layout'));
    const root = three.document(MediaType.ociIndex, {
      manifests: [amd64, arm64, extra, three.attestation(amd64), three.attestation(extra)],
    });
    three.close(['v1', index], ['three', root]);
    const result = await push(`oci:${three.path}:three`, { platforms: 'linux/amd64,linux/riscv64' });
    expect(result.errors).toEqual([]);
    const bytes = await raw(reference);
    expect(digestOf(bytes)).toBe(result.outputs.digest);
    const names = await namesOf(bytes);
    expect(names).toHaveLength(4);
    expect(names).toEqual(expect.arrayContaining([amd64.digest, extra.digest]));
    await expect(raw(pinned(arm64.digest))).rejects.toThrow(/manifest unknown/);
  });

  it('platforms that leaves one pushes its manifest itself', async () => {
    const plain = new LayoutFolder(join(folder, 'plain'));
    const [one, other] = [await plain.image('amd64'), await plain.image('s390x')];
    plain.close(plain.document(MediaType.ociIndex, { manifests: [one, other] }));
    const result = await push(`oci:${plain.path}`, { platforms: 'linux/s390x' });
    expect(result.errors).toEqual([]);
    expect(result.outputs.digest).toBe(other.digest);
    expect((await pullBack(reference)).digest).toBe(other.digest);
  });

  it('a platform that is not there is an error which tells those that are', async () => {
    const [error] = (await push(`oci:${layout.path}:v1`, { platforms: 'linux/mips64le' })).errors;
    expect(error).toMatch(/linux\/mips64le/);
    expect(error).toMatch(/linux\/amd64.*linux\/arm64/);
    expect(registry.manifests().some((name) => reference.includes(name.split('@')[0]!))).toBe(false);
  });

  it('platforms whose content is absent are left out with a warning, as docker push does', async () => {
    const result = await push(`oci-archive:${fixture('docker28-containerd-absent-platform')}`);
    expect(result.errors).toEqual([]);
    expect(result.warnings.join('\n')).toContain(
      'not all of the multi-platform content is present: only linux/amd64 is pushed, as sha256:554c4e27',
    );
    expect(result.outputs.digest).toMatch(/^sha256:554c4e27/);
    expect((await pullBack(reference)).digest).toBe(result.outputs.digest);
  });

  it('foreign layers stay where they are, and keep their URLs', async () => {
    const urls = ['https://storage.example.com/base-layer'];
    const foreign: Descriptor = {
      mediaType: 'application/vnd.docker.image.rootfs.foreign.diff.tar.gzip',
      digest: absentDigest('base layer'),
      size: 1_000_000_000,
      urls,
    };
    const windows = new LayoutFolder(join(folder, 'foreign'));
    const image = await windows.image('amd64', { foreign: [foreign] });
    windows.close(image);
    const result = await push(`oci:${windows.path}`);
    expect(result.errors).toEqual([]);
    expect(result.outputs.digest).toBe(image.digest);
    const manifest = JSON.parse((await raw(reference)).toString()) as Manifest;
    expect(manifest.layers[0]).toEqual(foreign);
    expect(result.outputs.metadata).not.toContain(foreign.digest);
  });

  describe('what belongs to an image', () => {
    it('goes with it: a signature that the layout holds as a referrer', async () => {
      const signed = new LayoutFolder(join(folder, 'signed'));
      const image = await signed.image('amd64');
      const config = signed.blob(Buffer.from('{}'), 'application/vnd.oci.empty.v1+json');
      const signature = signed.document(MediaType.ociManifest, {
        artifactType: 'application/vnd.example.signature.v1',
        config,
        layers: [signed.blob(Buffer.from('signature'), 'application/octet-stream')],
        subject: { mediaType: image.mediaType, digest: image.digest, size: image.size },
      });
      signed.close(image, signature);
      const result = await push(`oci:${signed.path}`);
      expect(result.errors).toEqual([]);
      expect(result.outputs.digest).toBe(image.digest);
      expect(digestOf(await raw(pinned(signature.digest)))).toBe(signature.digest);
    });
  });
});
