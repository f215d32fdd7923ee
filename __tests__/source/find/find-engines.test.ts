import { chmodSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { ImageTree } from '../../../src/oci/image-tree.ts';
import { type Descriptor, digestOf, MediaType } from '../../../src/oci/types.ts';
import type { OpenOptions, StoreSource } from '../../../src/source/source.ts';
import { DOCKER20, fixturePath, inspectOf, readAll } from '../fixtures.ts';
import { failure, find, never, opening, path } from './found.ts';

describe('engines', () => {
  /** A PATH with tools that answer as these scripts say, beside the system's own sh and mkfifo. */
  const pathWith = (name: string, tools: Record<string, string>) => {
    const folder = path(name);
    mkdirSync(folder);
    for (const [tool, script] of Object.entries(tools)) {
      writeFileSync(join(folder, tool), `#!/bin/sh\n${script}\n`);
      chmodSync(join(folder, tool), 0o755);
    }
    for (const tool of ['sh', 'cat', 'mkfifo', 'sleep']) symlinkSync(`/bin/${tool}`, join(folder, tool));
    return { PATH: folder };
  };
  const engineOf = (archive: string, inspect: string) =>
    `case "$1 $2" in
      "image inspect") cat '${inspect}';;
      "save "*) shift $(($# - 1)); echo "$1" > '${path('asked')}'; cat '${fixturePath(archive)}';;
      *) exit 9;;
    esac`;
  const missing = (words: string) => `echo '[]'; echo '${words}' >&2; exit 1`;

  it('asks docker first, then podman, and saves by ID', async () => {
    const inspect = fixturePath('podman43.inspect.json');
    const env = pathWith('both', {
      docker: missing('Error: No such image: fx:one'),
      podman: engineOf('podman43-docker-archive.tar', inspect),
    });
    const found = await find('fx:one', { env });
    expect(found).toMatchObject({ engine: 'podman', imageId: DOCKER20.config, diffIds: DOCKER20.diffIds });
    expect(found.root).toBeUndefined();
    const source = await found.open(opening);
    if (source.kind !== 'stream') throw new Error('save is a stream');
    expect(await readAll(source)).toHaveLength(3);
    expect(source.tree()?.kind).toBe('composed');
    expect(readFileSync(path('asked'), 'utf8').trim()).toBe(DOCKER20.config);
  });

  it.each([
    ['docker20-overlay2', 'docker20-overlay2', 'composed'],
    ['docker28-overlay2', 'docker28-overlay2', 'composed'],
    ['docker28-containerd-absent-platform', 'docker28-containerd-absent-platform', 'manifests'],
    ['docker28-containerd-multi', 'docker28-containerd-absent-platform', 'manifests'],
  ])('reads the save of %s', async (archive, inspect, kind) => {
    const env = pathWith(`save-${archive}`, {
      docker: engineOf(`${archive}.tar`, fixturePath(`${inspect}.inspect.json`)),
    });
    const found = await find('fx', { env, engine: 'docker' });
    expect(found.imageId).toBe(inspectOf(inspect).Id);
    expect(found.root).toBe(kind === 'manifests' ? found.imageId : undefined);
    const source = await found.open(opening);
    if (source.kind !== 'stream') throw new Error('save is a stream');
    const blobs = await readAll(source);
    expect(blobs.every(({ digest, hash }) => digest === undefined || digest === hash)).toBe(true);
    expect(source.tree()?.kind).toBe(kind);
  });

  it('lowers the repository that the engine is asked for, never the tag', async () => {
    const env = pathWith('lower', {
      docker: `[ "$1" = image ] && echo "$3" > '${path('name')}'; exit 1`,
      podman: 'exit 1',
    });
    await failure(find('ghcr.io/MyOrg/App:V1', { env }));
    expect(readFileSync(path('name'), 'utf8').trim()).toBe('ghcr.io/myorg/app:V1');
  });

  it('says what was tried when no engine has the image', async () => {
    const down = missing('Cannot connect to the Docker daemon at unix:///x.sock. Is the docker daemon running?');
    const env = pathWith('down', { docker: down });
    const error = await failure(find('fx:one', { env }));
    expect(error.message).toBe(
      'no image "fx:one" was found: docker: Cannot connect to the Docker daemon at unix:///x.sock. Is the docker daemon running?; podman is not installed',
    );
    expect(error.remedy).toMatch(/^Docker did not answer: start it/);
    const none = await failure(find('fx:one', { env: pathWith('none', {}) }));
    expect(none.message).toBe('no image "fx:one" was found: docker is not installed; podman is not installed');
    expect(none.remedy).toContain('start it, or push from a file');
    const absent = pathWith('absent', { docker: missing('Error response from daemon: No such image: fx:one') });
    const only = await failure(find('fx:one', { env: absent, engine: 'docker' }));
    expect(only).toMatchObject({
      message: 'no image "fx:one" was found: docker: No such image: fx:one',
      remedy: expect.stringContaining('build or pull it first'),
    });
  });

  it.each(['', '-x', '--help', 'a b', 'a\nb'])('does not hand %j to an engine', async (image) => {
    expect((await failure(find(image))).message).toContain('is not the name or ID of an image');
  });

  it('reports a save that fails with the words of the engine', async () => {
    const inspect = fixturePath('docker28-overlay2.inspect.json');
    const half = `case "$1" in image) cat '${inspect}';; *) head -c 5000 '${fixturePath('docker28-overlay2.tar')}'; echo 'Error response from daemon: no space left on device' >&2; exit 1;; esac`;
    const env = pathWith('half', { docker: half });
    symlinkSync('/usr/bin/head', join(env.PATH, 'head'));
    const source = await (await find('fx', { env })).open(opening);
    if (source.kind !== 'stream') throw new Error('save is a stream');
    const error = await failure(readAll(source));
    expect(error).toMatchObject({
      step: 'Export',
      message: 'docker save failed with exit code 1: no space left on device',
    });
  });

  it('uses the store that is offered, as export says', async () => {
    const env = pathWith('store', {
      docker: engineOf('docker28-overlay2.tar', fixturePath('docker28-overlay2.inspect.json')),
    });
    const store = {
      kind: 'store',
      description: 'a store',
      tree: { kind: 'composed', config: Buffer.alloc(0), diffIds: [] },
    } as unknown as StoreSource;
    const open = async (
      way: 'auto' | 'save' | 'store',
      opened: () => Promise<StoreSource | undefined>,
      withoutStore = false,
    ) => {
      const found = await find('fx', { env, export: way, storeOpener: opened });
      const source = await found.open({ ...opening, withoutStore });
      await source.close();
      return source.kind;
    };
    const broken = () => Promise.reject(new Error('permission denied'));
    expect(await open('auto', async () => store)).toBe('store');
    expect(await open('auto', async () => store, true)).toBe('stream');
    expect(await open('save', async () => store)).toBe('stream');
    expect(await open('auto', async () => undefined)).toBe('stream');
    expect(await open('auto', broken)).toBe('stream');
    expect(await open('store', async () => store)).toBe('store');
    await expect(open('store', broken)).rejects.toThrow('permission denied');
    expect((await failure(open('store', async () => undefined))).message).toContain(
      "the store of docker can't be read",
    );
  });

  it('reports the documents of an image out of the store, which is opened once and stays open until the end', async () => {
    const named = 'docker28-containerd-absent-platform';
    const containerd = {
      env: pathWith('glimpse', { docker: engineOf(`${named}.tar`, fixturePath(`${named}.inspect.json`)) }),
    };
    const overlay2 = 'docker28-overlay2';
    const classic = {
      env: pathWith('classic', { docker: engineOf(`${overlay2}.tar`, fixturePath(`${overlay2}.inspect.json`)) }),
    };
    const stores: { store: StoreSource; closed: number }[] = [];
    const config = Buffer.from('{}');
    const configRow = { mediaType: MediaType.ociConfig, digest: digestOf(config), size: config.length };
    const manifest = Buffer.from(
      JSON.stringify({ schemaVersion: 2, mediaType: MediaType.ociManifest, config: configRow, layers: [] }),
    );
    const root = { mediaType: MediaType.ociManifest, digest: digestOf(manifest), size: manifest.length };
    const complete = new Map([
      [root.digest, manifest],
      [configRow.digest, config],
    ]);
    const openerOf =
      (tree: ImageTree) =>
      async (_: unknown, { notice }: Pick<OpenOptions, 'notice'>) => {
        notice('a helper reads it');
        const entry = {
          store: { kind: 'store', description: 'the store', tree, close: async () => void entry.closed++ },
          closed: 0,
        } as unknown as { store: StoreSource; closed: number };
        stores.push(entry);
        return entry.store;
      };
    const opener = (absent: readonly Descriptor[], documents = complete) =>
      openerOf({ kind: 'manifests', root, documents, absent });
    const told: string[] = [];
    const notice = (text: string) => void told.push(text);

    const found = await find('fx', { ...containerd, storeOpener: opener([]), notice });
    expect(stores).toHaveLength(1);
    expect(await found.documents?.(never)).toBe(stores[0]?.store.tree);
    expect(await found.documents?.(never)).toBe(stores[0]?.store.tree);
    expect(told).toEqual(['a helper reads it']);
    for (let round = 0; round < 2; round += 1) {
      const source = await found.open({ ...opening, notice });
      expect(source.kind === 'store' && source.tree).toBe(stores[0]?.store.tree);
      await source.close();
    }
    expect(told).toContain('Layers are read straight from the store; turn this off with `export: save`');
    expect(stores.map(({ closed }) => closed)).toEqual([0]);
    await found.close?.();
    expect(stores.map(({ closed }) => closed)).toEqual([1]);

    const composed: ImageTree = { kind: 'composed', config, diffIds: [] };
    const fromOverlay2 = await find('fx', { ...classic, storeOpener: openerOf(composed) });
    expect(await fromOverlay2.documents?.(never)).toBe(composed);
    const partial = await find('fx', { ...containerd, storeOpener: opener([root]) });
    expect(await partial.documents?.(never)).toBeUndefined();
    const without = await find('fx', { ...containerd, storeOpener: opener([], new Map([[root.digest, manifest]])) });
    expect(await without.documents?.(never)).toBeUndefined();
    const denied = await find('fx', {
      ...containerd,
      storeOpener: () => Promise.reject(new Error('permission denied')),
    });
    expect(await denied.documents?.(never)).toBeUndefined();
    await denied.close?.();
    const saved = await find('fx', { ...containerd, export: 'save', storeOpener: opener([]) });
    expect(saved.documents).toBeUndefined();
    expect((await find('fx', containerd)).documents).toBeUndefined();
    expect(stores).toHaveLength(4);
  });
});
