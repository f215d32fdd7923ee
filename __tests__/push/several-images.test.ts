/** Several images in one push: shared blobs go once a registry, and all tags move or none. */
import { randomBytes } from 'node:crypto';
import { describe, expect, it, onTestFinished } from 'vitest';
import { digestOf } from '../../src/oci/types.ts';
import { commit, type TransferredImage } from '../../src/push/commit.ts';
import { closeContext, contextOf, openContext } from '../../src/push/context.ts';
import { transferImage } from '../../src/push/transfer-image.ts';
import type { FoundImage } from '../../src/source/source.ts';
import { refusal } from '../support/registry/answer.ts';
import type { Quirk } from '../support/registry/quirk.ts';
import type { Registry } from '../support/registry/server.ts';
import { composed, Events, type PlainLayer, plainLayer, registryForTest, requestForTest, storeOf } from './bench.ts';

const KB = 1000;
const layer = (bytes = 20 * KB): PlainLayer => plainLayer(randomBytes(bytes));
const SHARED = layer();

/** An image in an engine without manifests of its own. */
const imageOf = (name: string, layers: readonly PlainLayer[]): FoundImage => {
  const { config, diffIds } = composed(layers, name);
  const store = { ...storeOf(layers), tree: { kind: 'composed' as const, config, diffIds } };
  return { name, imageId: digestOf(config), diffIds, engine: 'docker', open: async () => store };
};

/** Pushes images to where their names say. */
const pushTo = async (references: readonly string[], images: readonly FoundImage[], byDigest = false) => {
  const events = new Events();
  const inputs = { image: references.join('\n'), cache: 'false', ...(byDigest ? { 'push-by-digest': 'true' } : {}) };
  const request = await requestForTest(inputs);
  const shared = await openContext(request, events.report, new AbortController().signal);
  onTestFinished(() => closeContext(shared));
  const transferred: TransferredImage[] = [];
  for (const [index, image] of request.images.entries()) {
    const [context, found] = [contextOf(shared, image), images[index]!];
    transferred.push({ context, found, transferred: await transferImage(context, found) });
  }
  const committed = await commit(transferred, shared, { byDigest });
  const targets = transferred.flatMap(({ context }) => context.registries).flatMap(({ repositories }) => repositories);
  return { ...committed, targets, events, shared };
};

/** Refuses requests that a test names, once it says so. */
const refusing = (): Quirk & { path: string; status: number } => {
  const quirk = {
    name: 'refuses what a test names',
    path: '',
    status: 403,
    before: ({ method, path }: { method: string; path: string }) =>
      method === 'PUT' && quirk.path !== '' && new RegExp(quirk.path).test(path)
        ? refusal(quirk.status, 'DENIED', 'not for you')
        : undefined,
  };
  return quirk as unknown as Quirk & { path: string; status: number };
};

const three = () => ['a', 'b', 'c'].map((name) => imageOf(name, [SHARED, layer()]));
const manifestPuts = ({ requests }: Registry) =>
  requests
    .filter(({ step }) => step === 'manifest-put')
    .map(({ repository, path }) => `${repository}:${path.split('/').at(-1)}`);

describe('several images', () => {
  it('send shared blobs once a registry, and every manifest by digest before any tag', async () => {
    const [one, two] = [await registryForTest(), await registryForTest()];
    const references = [`${one.host}/team/a:1`, `${one.host}/team/b:1`, `${two.host}/team/c:1`];
    const { targets, changed } = await pushTo(references, three());
    expect(targets.map(({ failures }) => failures)).toEqual([[], [], []]);
    expect(changed).toBe(true);
    const puts = manifestPuts(one).map((put) => put.split(':')[1]);
    expect(puts).toEqual(['sha256', 'sha256', '1', '1']);
    expect(manifestPuts(two).at(-1)).toBe('team/c:1');
    // Four blobs of five: two layers of their own, two configs, and the shared layer in the first repository alone.
    expect(one.requests.filter(({ step }) => step === 'upload-put')).toHaveLength(5);
    expect(one.requests.filter(({ step }) => step === 'upload-mount')).toHaveLength(1);
  });

  it('move no tag, in no registry, when a manifest of one is refused', async () => {
    const quirk = refusing();
    const [one, two] = [await registryForTest({ quirks: [quirk] }), await registryForTest()];
    quirk.path = '/team/c/manifests/';
    const references = [`${one.host}/team/a:1`, `${two.host}/team/b:1`, `${one.host}/team/c:1`];
    await expect(pushTo(references, three())).rejects.toThrow(
      new RegExp(`${one.host}/team/c: .*not for you.*no tag has moved`),
    );
    for (const { tags } of [one, two]) for (const name of 'abc') expect(tags(`team/${name}`)).toEqual([]);
  });

  it('put tags back to what they named before, when one is refused', async () => {
    const quirk = refusing();
    const [one, two] = [await registryForTest({ quirks: [quirk] }), await registryForTest()];
    const references = [`${one.host}/team/a:1`, `${two.host}/team/b:1`, `${one.host}/team/c:1`];
    await pushTo(references, three());
    const before = [one.manifest('team/a', '1')?.digest, two.manifest('team/b', '1')?.digest];
    quirk.path = '/team/c/manifests/1$';
    await expect(pushTo(references, three())).rejects.toThrow(/team\/c:1 names another image.*no tag has moved/);
    expect([one.manifest('team/a', '1')?.digest, two.manifest('team/b', '1')?.digest]).toEqual(before);
    // They had moved.
    expect(manifestPuts(two).filter((put) => put === 'team/b:1')).toHaveLength(3);
  });

  it('delete tags that are new, or say that they could not be', async () => {
    const quirk = refusing();
    const deletes: Quirk = {
      name: 'deletes no tags',
      before: ({ method, route: { repository } }) =>
        method === 'DELETE' && repository === 'team/b' ? refusal(405, 'UNSUPPORTED', 'no deletes') : undefined,
    };
    const registry = await registryForTest({ quirks: [quirk, deletes] });
    quirk.path = '/team/c/manifests/1$';
    const references = ['a', 'b', 'c'].map((name) => `${registry.host}/team/${name}:1`);
    await expect(pushTo(references, three())).rejects.toThrow(
      new RegExp(`team/c:1: .*not for you; ${registry.host}/team/b:1 names sha256:.* could not be put back: it is new`),
    );
    expect(registry.tags('team/a')).toEqual([]);
    expect(registry.tags('team/b')).toEqual(['1']);
  });

  it('complete when they are pushed again after some tags have moved', async () => {
    const quirk = refusing();
    const registry = await registryForTest({ quirks: [quirk] });
    const references = ['a', 'b', 'c'].map((name) => `${registry.host}/team/${name}:1`);
    const images = three();
    await pushTo(references, images);
    const digests = ['a', 'b', 'c'].map((name) => registry.manifest(`team/${name}`, '1')?.digest);
    // As a push that was killed between two tags leaves it.
    await registry.reset();
    await pushTo(references.slice(0, 2), images);
    const puts = manifestPuts(registry).length;
    const { changed } = await pushTo(references, images);
    expect(changed).toBe(true);
    expect(['a', 'b', 'c'].map((name) => registry.manifest(`team/${name}`, '1')?.digest)).toEqual(digests);
    expect(manifestPuts(registry).slice(puts)).toEqual([`team/c:${digests[2]}`, 'team/c:1']);
  });

  it('move no tag by digest', async () => {
    const registry = await registryForTest();
    const references = ['a', 'b', 'c'].map((name) => `${registry.host}/team/${name}`);
    const { targets, changed } = await pushTo(references, three(), true);
    expect(changed).toBe(false);
    for (const target of targets) {
      const digest = target.digestOf(target.references[0]!);
      expect(registry.manifest(target.repository.name, digest ?? '')).toBeDefined();
      expect(registry.tags(target.repository.name)).toEqual([]);
    }
  });
});

describe('one image', () => {
  const image = imageOf('one', [SHARED]);

  it('is put under its tag at once, and not again under the same tag', async () => {
    const registry = await registryForTest();
    const reference = `${registry.host}/team/app:1`;
    expect((await pushTo([reference], [image])).changed).toBe(true);
    expect(manifestPuts(registry)).toEqual(['team/app:1']);
    const { changed, targets } = await pushTo([reference], [image]);
    expect(changed).toBe(false);
    expect(targets[0]?.digestOf(targets[0].references[0]!)).toBe(registry.manifest('team/app', '1')?.digest);
    expect(manifestPuts(registry)).toHaveLength(1);
  });

  it('is put again where a blob was missing, though the tag names it', async () => {
    const registry = await registryForTest();
    const reference = `${registry.host}/team/app:1`;
    await pushTo([reference], [image]);
    const [lost] = registry.blobs('team/app');
    await registry.removeBlob('team/app', lost ?? '');
    const { changed } = await pushTo([reference], [image]);
    expect(changed).toBe(false);
    expect(registry.blobs('team/app')).toContain(lost);
    expect(manifestPuts(registry)).toEqual(['team/app:1', `team/app:${registry.manifest('team/app', '1')?.digest}`]);
  });

  it.each([
    [400, 'TAG_INVALID'],
    [400, 'MANIFEST_INVALID'],
    [405, 'UNSUPPORTED'],
    [403, 'DENIED'],
    [409, 'CONFLICT'],
    [412, 'PRECONDITION'],
  ])('under an immutable tag is a success again, and another one fails with its name (%d)', async (status, code) => {
    const immutable: Quirk = {
      name: 'immutable tags',
      before: ({ method, route: { step, repository, reference } }, { store }) =>
        method === 'PUT' && step === 'manifest-put' && store.repositories.get(repository)?.tags.has(reference)
          ? refusal(status, code, 'the tag is immutable')
          : undefined,
    };
    const registry = await registryForTest({ quirks: [immutable] });
    const reference = `${registry.host}/team/app:1`;
    await pushTo([reference], [image]);
    const { targets } = await pushTo([reference], [image]);
    expect(targets[0]?.failures).toEqual([]);
    const { targets: others } = await pushTo([reference], [imageOf('other', [SHARED])]);
    const digest = registry.manifest('team/app', '1')?.digest;
    expect(String(others[0]?.failures[0]?.error)).toContain(
      `${reference} names another image, ${digest}, and may not be moved`,
    );
    expect(String(others[0]?.failures[0]?.error)).toContain('the tag is immutable');
    expect(others[0]?.failures[0]?.error).toMatchObject({ remedy: 'push under a new tag where tags are immutable' });
  });
});
