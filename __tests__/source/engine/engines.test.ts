import { afterAll, beforeAll, expect, it } from 'vitest';
import { ImageError } from '../../../src/common/error.ts';
import type { ImageTree } from '../../../src/oci/image-tree.ts';
import { type Digest, digestOf } from '../../../src/oci/types.ts';
import { walk } from '../../../src/oci/walk.ts';
import { askDocker, INFO_PATH, imagePaths, socketOf } from '../../../src/source/engine/docker-api.ts';
import { type DockerInfo, isContainerdStore } from '../../../src/source/engine/inspect.ts';
import { findImage } from '../../../src/source/find/find.ts';
import type { FoundImage } from '../../../src/source/source.ts';
import { buildImage, type ImageRecipe, loadImage, smallRecipe } from '../../support/images.ts';
import { type DockerAddress, type DockerOptions, docker, imageIdOf, partOfDocker } from '../../support/real/docker.ts';
import { commandOf } from '../../support/real/parts.ts';
import { type Podman, startPodman } from '../../support/real/podman.ts';
import { type DockerRegistry, startDockerRegistry } from '../../support/real/registry.ts';
import { describeWith, sharedDocker } from '../../support/real/suite.ts';
import { fixturePath, readAll } from '../fixtures.ts';

const never = new AbortController().signal;
const opening = { signal: never, debug: () => {}, notice: () => {} };

/** Saves an image as the push does, and checks every blob against what its manifest or config says of it. */
async function readWhole(found: FoundImage): Promise<ImageTree> {
  const source = await found.open(opening);
  if (source.kind !== 'stream') throw new Error('save is a stream');
  const blobs = await readAll(source);
  const tree = source.tree();
  if (!tree) throw new Error('no tree');
  for (const { digest, hash } of blobs) expect(digest ?? hash).toBe(hash);
  const here = new Set<Digest>(blobs.map(({ hash }) => hash));
  if (tree.kind === 'composed') {
    expect(digestOf(tree.config)).toBe(found.imageId);
    expect(tree.diffIds).toEqual(found.diffIds);
    for (const diffId of tree.diffIds) expect(here).toContain(diffId);
    return tree;
  }
  for (const digest of tree.documents.keys()) here.add(digest);
  expect(tree.root.digest).toBe(found.imageId);
  for (const { digest } of walk(tree).blobs) expect(here).toContain(digest);
  return tree;
}

const engines: readonly DockerOptions[] = [
  { version: 'debian', store: 'overlay2' },
  { version: 'trixie', store: 'overlay2' },
  { version: 'trixie', store: 'containerd' },
  { version: 'sid', store: 'containerd' },
];

const FOREIGN = ['docker28-containerd-multi-arm64', 'docker28-containerd-multi', 'docker28-containerd-absent-platform'];

for (const options of engines) {
  const name = `Docker ${options.version} (${options.store})`;
  describeWith([partOfDocker(options.version), 'docker-registry'], `finding images in ${name}`, () => {
    const recipe: ImageRecipe = smallRecipe(`finding-${options.version}-${options.store}`);
    const image = `finding-${options.version}-${options.store}:Built`;
    let engine: DockerAddress;
    let env: NodeJS.ProcessEnv;
    let registry: DockerRegistry;
    const find = (name: string) => findImage({ image: name, engine: 'docker', env, signal: never });
    beforeAll(async () => {
      [engine, registry] = await Promise.all([sharedDocker(options), startDockerRegistry()]);
      env = { ...process.env, ...engine.env };
      await buildImage({ command: commandOf(partOfDocker(options.version), 'docker'), env }, image, recipe);
    }, 180_000);
    afterAll(() => registry?.stop());

    it('finds a built image by name, by tag and by ID, and reads it whole', async () => {
      const id = await imageIdOf(engine, image);
      for (const name of [image, id, id.slice(7), id.slice(7, 25), image.replace('finding', 'Finding')]) {
        const found = await find(name);
        expect(found).toMatchObject({ imageId: id, engine: 'docker', name });
      }
      const found = await find(image);
      const tree = await readWhole(found);
      expect(tree.kind).toBe(options.store === 'containerd' ? 'manifests' : 'composed');
      expect(found.root).toBe(options.store === 'containerd' ? id : undefined);
    });

    it('tells over its socket what its command tells', async () => {
      const socket = await socketOf(commandOf(partOfDocker(options.version), 'docker'), env);
      const [told] = JSON.parse(await docker(engine, 'image', 'inspect', image)) as Record<string, unknown>[];
      const asked = await askDocker(socket ?? '', imagePaths(image)?.inspect ?? '', never);
      for (const name of ['Id', 'RepoDigests', 'RootFS', 'Descriptor']) expect(asked?.[name]).toEqual(told?.[name]);
      const info = await askDocker(socket ?? '', INFO_PATH, never);
      const command = JSON.parse(await docker(engine, 'info', '--format', '{{json .}}'));
      for (const name of ['Driver', 'DriverStatus', 'DockerRootDir', 'OperatingSystem', 'Containerd'])
        expect(info?.[name]).toEqual(command[name]);
      expect(isContainerdStore(info as DockerInfo)).toBe(options.store === 'containerd');
    });

    it('reads an image that was loaded, with an empty and a repeated layer', async () => {
      const loaded = `finding-loaded-${options.version}-${options.store}:1`;
      const builder = { command: commandOf(partOfDocker(options.version), 'docker'), env };
      const { diffIds } = await loadImage(builder, loaded, recipe);
      const found = await find(loaded);
      expect(found.diffIds).toEqual(found.root ? undefined : diffIds);
      await readWhole(found);
    });

    if (options.store === 'containerd')
      it('names the root that inspect names: of an index, of one with a platform absent, of another platform alone', async () => {
        for (const archive of FOREIGN) {
          const loaded = await docker(engine, 'load', '--input', fixturePath(`${archive}.tar`));
          const [, name = ''] = /Loaded image: (\S+)/.exec(loaded) ?? [];
          const id = await imageIdOf(engine, name);
          expect(await find(name)).toMatchObject({ imageId: id, root: id });
          expect(await find(id)).toMatchObject({ imageId: id, root: id });
        }
      });

    it('reads the image that it found, though its tag has moved', async () => {
      const tag = `finding-moved-${options.version}-${options.store}:1`;
      await docker(engine, 'tag', image, tag);
      const found = await find(tag);
      await buildImage({ command: commandOf(partOfDocker(options.version), 'docker'), env }, tag, {
        seed: 'moved',
        layers: [{ bytes: 10 }],
      });
      expect(await imageIdOf(engine, tag)).not.toBe(found.imageId);
      await readWhole(found);
    });

    it('stops a save that is cancelled', async () => {
      const cancel = new AbortController();
      const source = await (await find(image)).open({ ...opening, signal: cancel.signal });
      if (source.kind !== 'stream') throw new Error('save is a stream');
      const reason = new Error('cancelled');
      const reading = (async () => {
        for await (const { body } of source.blobs()) {
          body.once('error', () => {});
          cancel.abort(reason);
        }
      })();
      await expect(reading).rejects.toBe(reason);
      await source.close();
    });

    it('pushes by the engine, and leaves the names as they were', async () => {
      const found = await find(image);
      const reference = `${registry.host}/fallback:1`;
      const digest = await found.push?.(reference, { insecure: true, signal: never, debug: () => {} });
      const served = await fetch(`http://${registry.host}/v2/fallback/manifests/1`, { headers: { accept: ACCEPT } });
      expect(served.headers.get('docker-content-digest')).toBe(digest);
      if (found.root) expect(digest).toBe(found.root);
      await expect(imageIdOf(engine, reference)).rejects.toThrow();
      await docker(engine, 'tag', `finding-moved-${options.version}-${options.store}:1`, reference);
      const held = await imageIdOf(engine, reference);
      await found.push?.(reference, { insecure: true, signal: never, debug: () => {} });
      expect(await imageIdOf(engine, reference)).toBe(held);
      await docker(engine, 'rmi', '--no-prune', reference);
      const nowhere = found.push?.('127.0.0.1:1/x:1', { insecure: true, signal: never, debug: () => {} });
      await expect(nowhere).rejects.toMatchObject({
        name: 'ImageError',
        step: 'Fallback',
        message: expect.stringContaining('connection refused'),
      });
    });

    it('says that an image is not there, in the words of the engine', async () => {
      const error = await find('finding-nothing:1').catch((reason: unknown) => reason);
      expect(error).toBeInstanceOf(ImageError);
      expect((error as ImageError).message).toMatch(
        /^no image "finding-nothing:1" was found: docker: No such image: finding-nothing:1$/i,
      );
    });
  });
}

const ACCEPT = [
  'application/vnd.oci.image.index.v1+json',
  'application/vnd.oci.image.manifest.v1+json',
  'application/vnd.docker.distribution.manifest.v2+json',
].join(', ');

describeWith(['podman', 'docker-registry'], 'finding images in Podman', () => {
  const recipe = smallRecipe('finding-podman');
  let podman: Podman;
  let registry: DockerRegistry;
  const find = (name: string, engine: 'auto' | 'podman' = 'podman') =>
    findImage({
      image: name,
      engine,
      env: { ...process.env, ...podman.env, DOCKER_HOST: 'unix:///nowhere.sock' },
      signal: never,
    });
  beforeAll(async () => {
    [podman, registry] = await Promise.all([startPodman(), startDockerRegistry()]);
    const builder = { command: commandOf('podman', 'podman'), env: podman.env };
    await loadImage(builder, 'localhost/finding:loaded', recipe);
    await buildImage(builder, 'finding:built', recipe);
  }, 180_000);
  afterAll(async () => {
    await podman?.stop();
    await registry?.stop();
  });

  it('finds images with and without localhost/, docker or no docker, and reads them whole', async () => {
    for (const name of ['finding:loaded', 'localhost/finding:built', 'finding:built']) {
      const found = await find(name);
      expect(found.engine).toBe('podman');
      expect(found.root).toBeUndefined();
      expect((await readWhole(found)).kind).toBe('composed');
    }
    expect((await find('finding:built', 'auto')).engine).toBe('podman');
    const { imageId } = await find('finding:built');
    expect((await find(imageId.slice(7, 20))).imageId).toBe(imageId);
  });

  it('pushes by the engine', async () => {
    const found = await find('finding:built');
    const digest = await found.push?.(`${registry.host}/podman:1`, { insecure: true, signal: never, debug: () => {} });
    const served = await fetch(`http://${registry.host}/v2/podman/manifests/1`, { headers: { accept: ACCEPT } });
    expect(served.headers.get('docker-content-digest')).toBe(digest);
  });

  it('says that an image is not there, and what docker said', async () => {
    const error = (await find('finding-nothing:1', 'auto').catch((reason: unknown) => reason)) as Error;
    expect(error).toBeInstanceOf(ImageError);
    expect(error.message).toMatch(/podman: .*(image not known|no such image)/i);
    expect(error.message).toMatch(/docker(: Cannot connect| is not installed)/);
  });
});
