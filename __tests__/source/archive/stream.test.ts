import { describe, expect, it } from 'vitest';
import type { ImageTree, ManifestTree } from '../../../src/oci/image-tree.ts';
import { selectPlatforms } from '../../../src/oci/platforms.ts';
import { walk } from '../../../src/oci/walk.ts';
import { CONTAINERD, DOCKER20, DOCKER28, fixture, PODMAN_OCI, readAll, streamOf } from '../fixtures.ts';

const asked = (imageId: `sha256:${string}`, diffIds: readonly `sha256:${string}`[], name = 'fx:one') => ({
  name,
  imageId,
  diffIds,
});

const manifests = (tree: ImageTree | undefined): ManifestTree => {
  if (tree?.kind !== 'manifests') throw new Error(`the tree is ${tree?.kind}`);
  return tree;
};

describe('a streamed archive', () => {
  it.each([
    ['docker20-overlay2', DOCKER20, 3, 3],
    ['podman43-docker-archive', DOCKER20, 3, 3],
    ['docker28-overlay2', DOCKER28, 4, 4],
  ])('gives a composed image: %s', async (name, { config, diffIds }, count, named) => {
    for (const step of [1, 511, 512, 513, 100_000]) {
      const source = streamOf(fixture(`${name}.tar`), asked(config, diffIds), step);
      expect(source.tree()).toBeUndefined();
      const blobs = await readAll(source);
      expect(blobs).toHaveLength(count);
      expect(blobs.filter(({ digest }) => digest)).toHaveLength(named);
      for (const blob of blobs)
        expect(blob).toMatchObject({ form: 'tar', ...(blob.digest ? { digest: blob.hash } : {}) });
      // A repeated layer comes once, whatever names it has.
      expect(new Set(blobs.map(({ hash }) => hash))).toEqual(new Set(diffIds));
      expect(source.tree()).toMatchObject({ kind: 'composed', diffIds });
    }
  });

  it('chooses the image asked for where there are two', async () => {
    for (const config of [DOCKER28.config, DOCKER28.other]) {
      const source = streamOf(fixture('docker28-overlay2-two-images.tar'), asked(config, DOCKER28.diffIds));
      expect(await readAll(source)).toHaveLength(4);
      const tree = source.tree();
      expect(tree?.kind === 'composed' && JSON.parse(tree.config.toString()).rootfs.diff_ids).toEqual(DOCKER28.diffIds);
      expect(tree?.kind === 'composed' && tree.config.length).toBe(config === DOCKER28.config ? 1289 : 1417);
    }
  });

  it.each([
    ['docker28-containerd', CONTAINERD.one, 2],
    ['docker28-containerd-multi', CONTAINERD.multi, 4],
  ])('gives the manifests of the containerd store byte for byte: %s', async (name, root, count) => {
    const source = streamOf(fixture(`${name}.tar`), asked(root, CONTAINERD.diffIds));
    const blobs = await readAll(source);
    expect(blobs.map(({ digest }) => digest).sort()).toEqual([...CONTAINERD.layers].sort());
    for (const blob of blobs) expect(blob).toMatchObject({ form: 'gzip', digest: blob.hash });
    const walked = walk(manifests(source.tree()));
    expect(walked.root.descriptor.digest).toBe(root);
    expect(walked.manifests).toHaveLength(count);
    expect(walked.documents.at(-1)).toBe(walked.root);
    const here = new Set([...CONTAINERD.layers, ...manifests(source.tree()).documents.keys()]);
    expect(walked.blobs.filter(({ digest }) => !here.has(digest))).toEqual([]);
  });

  it('gives a manifest that was saved for one platform', async () => {
    const source = streamOf(
      fixture('docker28-containerd-multi-arm64.tar'),
      asked(CONTAINERD.arm64, CONTAINERD.diffIds),
    );
    expect(await readAll(source)).toHaveLength(4);
    expect(walk(manifests(source.tree())).manifests[0]?.manifest.config.digest).toBe(CONTAINERD.configArm64);
  });

  it('finds the one image of the archive when the ID asked for is none of its documents', async () => {
    const source = streamOf(
      fixture('docker28-containerd-multi-arm64.tar'),
      asked(CONTAINERD.multi, CONTAINERD.diffIds, 'fx:multi'),
    );
    await readAll(source);
    expect(manifests(source.tree()).root.digest).toBe(CONTAINERD.arm64);
    const podman = streamOf(
      fixture('podman43-oci-archive.tar'),
      asked(DOCKER20.config, DOCKER20.diffIds, 'localhost/fx:one'),
    );
    const blobs = await readAll(podman);
    expect(blobs.map(({ form }) => form)).toEqual(['gzip', 'gzip', 'gzip']);
    expect(manifests(podman.tree()).root.digest).toBe(PODMAN_OCI.manifest);
  });

  it('does not take an image of that name that has other layers', async () => {
    const source = streamOf(fixture('docker28-overlay2.tar'), asked(CONTAINERD.multi, CONTAINERD.diffIds));
    await readAll(source);
    expect(() => source.tree()).toThrow(/does not hold the image fx:one \(sha256:da70/);
  });

  it('knows the tree as soon as nothing more can change it, so that reading may stop', async () => {
    const source = streamOf(fixture('docker28-containerd.tar'), asked(CONTAINERD.one, CONTAINERD.diffIds), 512);
    const known: [string, boolean][] = [];
    for await (const { digest, body } of source.blobs()) {
      known.push([digest!.slice(7, 11), source.tree() !== undefined]);
      body.destroy();
    }
    // e2d6… (the index) and f12a… (the attestation's config) come before the last layer, f8a5…
    expect(known).toEqual([
      ['6adc', false],
      ['8ade', false],
      ['9add', false],
      ['f8a5', true],
    ]);
  });

  it('leaves out platforms that are not there as docker push does', async () => {
    const source = streamOf(
      fixture('docker28-containerd-absent-platform.tar'),
      asked(CONTAINERD.multi, CONTAINERD.diffIds),
    );
    await readAll(source);
    const tree = manifests(source.tree());
    expect(tree.absent).toHaveLength(3);
    const { tree: selected, warnings } = selectPlatforms(tree, []);
    expect(selected.root.digest).toBe(CONTAINERD.amd64);
    expect(walk(selected).documents.map(({ descriptor }) => descriptor.digest)).toEqual([CONTAINERD.amd64]);
    expect(warnings).toHaveLength(1);
    expect(warnings[0]).toMatch(
      /only linux\/amd64 is pushed, as sha256:554c4e27.* instead of the index sha256:da70e0a0/,
    );
  });

  it('goes on after bodies that were left unread, in the middle or at once', async () => {
    const source = streamOf(fixture('docker28-overlay2.tar'), asked(DOCKER28.config, DOCKER28.diffIds), 100);
    const names: string[] = [];
    for await (const { name, body } of source.blobs()) {
      names.push(name);
      if (names.length % 2) body.destroy();
      else for await (const _ of body) break;
    }
    expect(names).toHaveLength(4);
    expect(source.tree()).toMatchObject({ kind: 'composed' });
  });

  it('ends with a cancel, or when it is closed, though nobody reads the body in hand', async () => {
    for (const way of ['cancel', 'close']) {
      const cancel = new AbortController();
      const reason = new Error('cancelled by a test');
      const source = streamOf(
        fixture('docker28-overlay2.tar'),
        asked(DOCKER28.config, DOCKER28.diffIds),
        100,
        cancel.signal,
      );
      const reading = (async () => {
        for await (const _ of source.blobs()) {
          if (way === 'cancel') cancel.abort(reason);
          else void source.close();
        }
      })();
      if (way === 'cancel') await expect(reading).rejects.toBe(reason);
      else await expect(reading).rejects.toMatchObject({ name: 'ImageError' });
    }
  });

  it('gives the reason of a cancel, not an error of its own', async () => {
    const cancel = new AbortController();
    const source = streamOf(
      fixture('docker28-overlay2.tar'),
      asked(DOCKER28.config, DOCKER28.diffIds),
      100,
      cancel.signal,
    );
    const reason = new Error('cancelled by a test');
    const reading = (async () => {
      for await (const { body } of source.blobs()) {
        cancel.abort(reason);
        body.resume();
      }
    })();
    await expect(reading).rejects.toBe(reason);
  });
});
