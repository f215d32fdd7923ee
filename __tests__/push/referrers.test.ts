/** Referrers at registries without a referrers API. distribution-spec, "Pushing Manifests with Subject". */
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { type Descriptor, type Digest, digestOf, type Index, MediaType } from '../../src/oci/types.ts';
import { referrersTag } from '../../src/push/image-manifests.ts';
import { push } from '../../src/push/push.ts';
import { LayoutFolder } from '../support/layout.ts';
import { startDockerRegistry } from '../support/real/registry.ts';
import { describeWith } from '../support/real/suite.ts';
import { refusal } from '../support/registry/answer.ts';
import type { Quirk } from '../support/registry/quirk.ts';
import type { Registry } from '../support/registry/server.ts';
import { Events, folderForTest, registryForTest, requestForTest } from './bench.ts';

const REPOSITORY = 'team/app';

/** A layout with an image, and what is said about it. */
interface Signed {
  readonly layout: LayoutFolder;
  readonly image: Descriptor;
  /** Writes the layout with the image, named `v1`, and these beside it. */
  close(...others: readonly Descriptor[]): string;
  /** A manifest that speaks about another one. */
  artifact(name: string, subject: Descriptor, more?: object): Descriptor;
}

async function signed(): Promise<Signed> {
  const layout = new LayoutFolder(join(await folderForTest(), 'layout'));
  const image = await layout.image('amd64', { bytes: 20_000 });
  return {
    layout,
    image,
    close: (...others) => {
      layout.close(['v1', image], ...others);
      return `oci:${layout.path}:v1`;
    },
    artifact: (name, subject, more = {}) =>
      layout.document(MediaType.ociManifest, {
        config: layout.blob(Buffer.from('{}'), 'application/vnd.example.empty+json'),
        layers: [layout.blob(Buffer.from(name), 'text/plain')],
        subject: { mediaType: subject.mediaType, digest: subject.digest, size: subject.size },
        ...more,
      }),
  };
}

async function pushTo(host: string, image: string) {
  const events = new Events();
  const request = await requestForTest({ cache: 'false', image, tags: `${host}/${REPOSITORY}:v1` });
  const result = await push(request, events.report, new AbortController().signal);
  return { result, events };
}

/** A descriptor without what its place in a layout adds to it. */
const named = ({ mediaType, digest, size }: Descriptor) => ({ mediaType, digest, size });

/** Tags and digests under which manifests were put, in order. */
const putsTo = ({ requests }: Registry): string[] =>
  requests.filter(({ step }) => step === 'manifest-put').map(({ path }) => path.split('/').at(-1) ?? '');

const listIn = (bytes: Buffer | undefined): Index => JSON.parse(`${bytes}`) as Index;

describe('a registry without a referrers API', () => {
  it('gets the lists under tags of the subjects: artifact types and annotations with them', async () => {
    const registry = await registryForTest({ profile: 'distribution2' });
    const { image, artifact, layout, close } = await signed();
    const annotations = { 'org.example.by': 'me' };
    const signature = artifact('signature', image, { artifactType: 'application/vnd.example.signature', annotations });
    const typeless = artifact('bill of materials', image, { artifactType: '' });
    const index = layout.document(MediaType.ociIndex, { manifests: [], subject: named(image), annotations });
    const second = artifact('signature of the signature', signature);
    const { result, events } = await pushTo(registry.host, close(signature, typeless, index, second));
    expect(result.digest).toBe(image.digest);
    const list = registry.manifest(REPOSITORY, `sha256-${image.digest.slice(7)}`);
    expect(list?.mediaType).toBe(MediaType.ociIndex);
    expect(listIn(list?.bytes)).toEqual({
      schemaVersion: 2,
      mediaType: MediaType.ociIndex,
      manifests: [
        { ...named(signature), artifactType: 'application/vnd.example.signature', annotations },
        // image manifests without an artifact type are known by their config's, indexes by nothing.
        { ...named(typeless), artifactType: 'application/vnd.example.empty+json' },
        { ...named(index), annotations },
      ],
    });
    expect(listIn(registry.manifest(REPOSITORY, referrersTag(signature.digest))?.bytes).manifests).toEqual([
      { ...named(second), artifactType: 'application/vnd.example.empty+json' },
    ]);
    expect(registry.tags(REPOSITORY)).toHaveLength(3);
    expect(events.texts('debug').filter((text) => text.includes('referrers'))).toEqual([
      `There is no referrers API: 3 of 3 referrers entered into ${registry.host}/${REPOSITORY}:${referrersTag(image.digest)}`,
      `There is no referrers API: 1 of 1 referrers entered into ${registry.host}/${REPOSITORY}:${referrersTag(signature.digest)}`,
    ]);
    expect(events.texts('warning')).toEqual([]);
  });

  it('keeps what a list has, and puts nothing when nothing is new', async () => {
    const registry = await registryForTest({ profile: 'distribution2' });
    const { image, artifact, close } = await signed();
    const one = artifact('one', image);
    await pushTo(registry.host, close(one));
    const tag = referrersTag(image.digest);
    const puts = () => putsTo(registry).filter((reference) => reference === tag).length;
    const first = listIn(registry.manifest(REPOSITORY, tag)?.bytes);
    expect([first.manifests.map(({ digest }) => digest), puts()]).toEqual([[one.digest], 1]);
    await pushTo(registry.host, close(one));
    expect(puts()).toBe(1);
    // Somebody's own field of the list stays too.
    const changed = Buffer.from(JSON.stringify({ ...first, annotations: { kept: 'yes' } }));
    await fetch(`http://${registry.host}/v2/${REPOSITORY}/manifests/${tag}`, {
      method: 'PUT',
      headers: { 'content-type': MediaType.ociIndex },
      body: changed,
    });
    const two = artifact('two', image);
    await pushTo(registry.host, close(two));
    const last = listIn(registry.manifest(REPOSITORY, tag)?.bytes);
    expect(last.manifests.map(({ digest }) => digest)).toEqual([one.digest, two.digest]);
    expect(last.annotations).toEqual({ kept: 'yes' });
  });

  it('lists them after they and the root are there', async () => {
    const registry = await registryForTest({ profile: 'distribution2' });
    const { image, artifact, close } = await signed();
    const signature = artifact('signature', image);
    await pushTo(registry.host, close(signature));
    expect(putsTo(registry)).toEqual(['v1', signature.digest, referrersTag(image.digest)]);
  });

  it('lists an artifact that is the root itself', async () => {
    const registry = await registryForTest({ profile: 'distribution2' });
    const { image, artifact, layout } = await signed();
    const signature = artifact('signature', image);
    layout.close(['signature', signature]);
    const { result } = await pushTo(registry.host, `oci:${layout.path}`);
    expect(result.digest).toBe(signature.digest);
    const list = listIn(registry.manifest(REPOSITORY, referrersTag(image.digest))?.bytes);
    expect(list.manifests.map(({ digest }) => digest)).toEqual([signature.digest]);
  });

  it('asks for no list and makes none for an image that nobody speaks about', async () => {
    const registry = await registryForTest({ profile: 'distribution2' });
    const { close } = await signed();
    await pushTo(registry.host, close());
    expect(registry.tags(REPOSITORY)).toEqual(['v1']);
    expect(registry.requests.filter(({ path }) => path.includes('/sha256-'))).toEqual([]);
  });

  it('warns when the list can not be put, and the push is one', async () => {
    const refuses: Quirk = {
      name: 'takes no tags of lists',
      before: ({ method, route: { reference } }) =>
        method === 'PUT' && reference.startsWith('sha256-')
          ? refusal(400, 'TAG_INVALID', 'no such tags here')
          : undefined,
    };
    const registry = await registryForTest({ profile: 'distribution2', quirks: [refuses] });
    const { image, artifact, close } = await signed();
    const signature = artifact('signature', image);
    const { result, events } = await pushTo(registry.host, close(signature));
    expect([result.digest, result.failures]).toEqual([image.digest, []]);
    expect(registry.manifest(REPOSITORY, signature.digest)).toBeDefined();
    const list = `${registry.host}/${REPOSITORY}:${referrersTag(image.digest)}`;
    expect(events.texts('warning')).toEqual([
      expect.stringMatching(
        new RegExp(
          `^The registry has no referrers API, and ${list}, .*${image.digest}.*: putting a manifest: .*no such tags here$`,
        ),
      ),
    ]);
  });

  it.each([
    ['an image', MediaType.ociManifest],
    ['a list of Docker’s', MediaType.dockerList],
  ])('leaves a tag alone that names %s', async (_, mediaType) => {
    const registry = await registryForTest({ profile: 'distribution2' });
    const { image, artifact, close } = await signed();
    const config = Buffer.from('{}');
    await registry.addBlob(REPOSITORY, config);
    const described = { mediaType: MediaType.ociConfig, digest: digestOf(config), size: config.length };
    const content = mediaType === MediaType.ociManifest ? { config: described, layers: [] } : { manifests: [] };
    const bytes = Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType, ...content }));
    const tag = referrersTag(image.digest);
    await fetch(`http://${registry.host}/v2/${REPOSITORY}/manifests/${tag}`, {
      method: 'PUT',
      headers: { 'content-type': mediaType },
      body: bytes,
    });
    const { result, events } = await pushTo(registry.host, close(artifact('signature', image)));
    expect(result.digest).toBe(image.digest);
    expect(events.texts('warning')).toEqual([
      expect.stringContaining(`the tag names a ${mediaType}, and no OCI image index`),
    ]);
    expect(registry.manifest(REPOSITORY, tag)?.bytes).toEqual(bytes);
  });
});

it('a registry that has the API gets no list', async () => {
  const registry = await registryForTest();
  const { image, artifact, close } = await signed();
  const signature = artifact('signature', image);
  await pushTo(registry.host, close(signature));
  expect(registry.tags(REPOSITORY)).toEqual(['v1']);
  const answer = await fetch(`http://${registry.host}/v2/${REPOSITORY}/referrers/${image.digest}`);
  expect(((await answer.json()) as Index).manifests).toMatchObject([{ digest: signature.digest }]);
});

describeWith(['docker-registry'], 'docker-registry 2.8', () => {
  it('has no referrers API, and serves the list under the tag', async () => {
    const registry = await startDockerRegistry();
    try {
      const { image, artifact, close } = await signed();
      const read = async (path: string) =>
        fetch(`http://${registry.host}/v2/${REPOSITORY}/${path}`, { headers: { accept: MediaType.ociIndex } });
      const digests: Digest[] = [];
      for (const name of ['one', 'two']) {
        const referrer = artifact(name, image, { artifactType: `application/vnd.example.${name}` });
        digests.push(referrer.digest);
        const { events } = await pushTo(registry.host, close(referrer));
        expect(events.texts('warning')).toEqual([]);
      }
      expect((await read(`referrers/${image.digest}`)).status).toBe(404);
      const list = (await (await read(`manifests/${referrersTag(image.digest)}`)).json()) as Index;
      expect(list.manifests.map(({ digest, artifactType }) => [digest, artifactType])).toEqual([
        [digests[0], 'application/vnd.example.one'],
        [digests[1], 'application/vnd.example.two'],
      ]);
    } finally {
      await registry.stop();
    }
  });
});
