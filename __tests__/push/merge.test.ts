/** Merges in embedded registries: which index comes out, and that nothing is tagged before everything is there. */
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { type Descriptor, type Digest, digestOf, type Index, MediaType, type Platform } from '../../src/oci/types.ts';
import { closeContext, openContext } from '../../src/push/context.ts';
import type { RawInputs } from '../../src/push/input-values.ts';
import { readParts } from '../../src/push/merge-parts.ts';
import { type MergeRequest, parseRequest } from '../../src/push/options.ts';
import { push } from '../../src/push/push.ts';
import { writeDockerArchive } from '../support/images.ts';
import { answer, refusal } from '../support/registry/answer.ts';
import type { Quirk } from '../support/registry/quirk.ts';
import type { Registry } from '../support/registry/server.ts';
import { Events, folderForTest, registryForTest, skipWaits } from './bench.ts';

const requestOf = async (raw: RawInputs): Promise<MergeRequest> => {
  const surroundings = { workDir: await folderForTest(), env: {}, remoteCache: false };
  return parseRequest(raw, surroundings) as MergeRequest;
};

const merge = async (merge: readonly string[], tags: readonly string[], raw: RawInputs = {}) => {
  const events = new Events();
  const request = await requestOf({ merge: merge.join('\n'), tags: tags.join('\n'), ...raw });
  return { events, ...(await push(request, events.report, new AbortController().signal)) };
};

/** Reads the parts of a merge alone, again after `waits` (ms). */
const partsOf = async (merge: string, tags: string, raw: RawInputs, waits: readonly number[]) => {
  const events = new Events();
  const shared = await openContext(
    await requestOf({ merge, tags, ...raw }),
    events.report,
    new AbortController().signal,
  );
  try {
    return { events, ...(await readParts(shared, waits)) };
  } finally {
    await closeContext(shared);
  }
};

const put = async ({ url }: Registry, repository: string, reference: string, document: object): Promise<Descriptor> => {
  const bytes = Buffer.from(JSON.stringify(document));
  const { mediaType } = document as { mediaType: string };
  const target = `${url}/v2/${repository}/manifests/${reference || digestOf(bytes)}`;
  const { status } = await fetch(target, { method: 'PUT', headers: { 'content-type': mediaType }, body: bytes });
  expect(status).toBe(201);
  return { mediaType, digest: digestOf(bytes), size: bytes.length };
};

const LINUX = (architecture: string, variant?: string): Platform => ({
  architecture,
  os: 'linux',
  ...(variant ? { variant } : {}),
});

/** An image in a registry under a tag, or by its digest alone. */
const image = async (
  registry: Registry,
  [repository, tag]: readonly [string, string],
  platform: object,
  seed = '',
): Promise<Descriptor> => {
  const layer = Buffer.from(`layer of ${JSON.stringify(platform)} ${seed}`);
  const config = Buffer.from(JSON.stringify({ ...platform, rootfs: { type: 'layers', diff_ids: [digestOf(layer)] } }));
  for (const blob of [layer, config]) await registry.addBlob(repository, blob);
  return put(registry, repository, tag, {
    schemaVersion: 2,
    mediaType: MediaType.ociManifest,
    config: { mediaType: MediaType.ociConfig, digest: digestOf(config), size: config.length },
    // Not compressed: a merge must not touch it all the same.
    layers: [{ mediaType: MediaType.ociLayer, digest: digestOf(layer), size: layer.length }],
  });
};

/** An index of an image and an attestation of it, as BuildKit writes one. */
const attested = async (registry: Registry, [repository, tag]: readonly [string, string], platform: Platform) => {
  const child = await image(registry, [repository, ''], platform);
  const statement = await image(registry, [repository, ''], { os: 'unknown', architecture: 'unknown' }, child.digest);
  const marks = { 'vnd.docker.reference.digest': child.digest, 'vnd.docker.reference.type': 'attestation-manifest' };
  const entries = [
    { ...child, platform },
    { ...statement, annotations: marks, platform: { architecture: 'unknown', os: 'unknown' } },
  ];
  await put(registry, repository, tag, { schemaVersion: 2, mediaType: MediaType.ociIndex, manifests: entries });
  return entries;
};

const indexOf = (registry: Registry, repository: string, tag: string): Index =>
  JSON.parse(registry.manifest(repository, tag)?.bytes.toString() ?? '{}') as Index;
const writes = ({ requests }: Registry) => requests.filter(({ method }) => !['GET', 'HEAD'].includes(method));

describe('a merge', () => {
  it('makes one index of images, platforms out of their configs, under every tag', async () => {
    const registry = await registryForTest();
    const arm = await image(registry, ['team/app', 'arm'], LINUX('arm', 'v7'));
    const amd = await image(registry, ['team/app', 'amd'], LINUX('amd64'));
    const windows = { os: 'windows', architecture: 'amd64', 'os.version': '10.0.20348.1' };
    const win = await image(registry, ['team/app', 'win'], windows);
    const before = registry.requests.length;
    const tags = [`${registry.host}/team/app:1.2`, `${registry.host}/team/app:latest`];
    const result = await merge(
      ['arm', 'win', 'amd'].map((tag) => `${registry.host}/team/app:${tag}`),
      tags,
    );
    expect(indexOf(registry, 'team/app', '1.2')).toEqual({
      schemaVersion: 2,
      mediaType: MediaType.ociIndex,
      manifests: [
        { ...amd, platform: LINUX('amd64') },
        { ...arm, platform: LINUX('arm', 'v7') },
        { ...win, platform: windows },
      ],
    });
    expect(result).toMatchObject({ digest: registry.manifest('team/app', '1.2')?.digest, changed: true, failures: [] });
    expect(result.digests).toEqual(Object.fromEntries(tags.map((tag) => [tag, result.digest])));
    // By its digest, read back, then the tags; nothing of the parts is sent or asked for again.
    const after = registry.requests.slice(before).map(({ method, path }) => `${method} ${path.split('/').at(-1)}`);
    expect(after.slice(-4)).toEqual([`PUT ${result.digest}`, `GET ${result.digest}`, 'PUT 1.2', 'PUT latest']);
    expect(registry.requests.slice(before).filter(({ step }) => step.startsWith('blob-head'))).toEqual([]);
    expect((await merge([`${registry.host}/team/app:1.2`], tags)).changed).toBe(false);
  });

  it('takes what indexes name byte for byte, and gives the same digest however the parts are listed', async () => {
    const registry = await registryForTest();
    const arm = await attested(registry, ['team/app', 'part-1'], LINUX('arm64'));
    const amd = await attested(registry, ['team/app', 'part-2'], LINUX('amd64'));
    const parts = ['part-1', 'part-2'].map((tag) => `${registry.host}/team/app:${tag}`);
    const target = `${registry.host}/team/app:1`;
    const first = await merge(parts, [target]);
    expect(indexOf(registry, 'team/app', '1').manifests).toEqual([amd[0], arm[0], amd[1], arm[1]]);
    expect((await merge(parts.toReversed(), [target])).digest).toBe(first.digest);
    expect((await merge([`${registry.host}/team/app:part-*`], [target])).digest).toBe(first.digest);
  });

  it('reads each manifest once, however often indexes name it and each other', async () => {
    const registry = await registryForTest();
    let child: Descriptor = await image(registry, ['team/app', 'x'], LINUX('amd64'));
    for (let depth = 0; depth < 10; depth += 1) {
      const manifests = Array.from({ length: 8 }, () => child);
      child = await put(registry, 'team/app', 'part', {
        schemaVersion: 2,
        mediaType: MediaType.ociIndex,
        depth,
        manifests,
      });
    }
    const before = registry.requests.length;
    await merge([`${registry.host}/team/app:part`], [`${registry.host}/team/app:1`]);
    expect(indexOf(registry, 'team/app', '1').manifests).toHaveLength(1);
    expect(
      registry.requests.slice(before).filter(({ method, step }) => method === 'GET' && step === 'manifest-get'),
    ).toHaveLength(12);
  });

  it('puts annotations on the index, with the prefix or without', async () => {
    const registry = await registryForTest();
    await image(registry, ['team/app', 'a'], LINUX('amd64'));
    const annotations = 'org.opencontainers.image.version=1.2\nindex:org.opencontainers.image.title=a, b=c';
    await merge([`${registry.host}/team/app:a`], [`${registry.host}/team/app:1`], { annotations });
    expect(indexOf(registry, 'team/app', '1').annotations).toEqual({
      'org.opencontainers.image.version': '1.2',
      'org.opencontainers.image.title': 'a, b=c',
    });
  });

  it('mounts parts of other repositories, and reads what can only be sent', async () => {
    const registry = await registryForTest();
    const two = await registryForTest();
    await image(registry, ['staging/amd', '1'], LINUX('amd64'));
    await image(registry, ['staging/arm', '1'], LINUX('arm64'));
    await image(two, ['staging/amd', '1'], LINUX('amd64'));
    const parts = [registry, two].flatMap(({ host }) => [`${host}/staging/amd:1`]);
    const tags = [registry, two].map(({ host }) => `${host}/team/app:1`);
    const result = await merge([...parts, `${registry.host}/staging/arm:1`], tags, { platforms: 'linux/arm64' });
    expect(indexOf(registry, 'team/app', '1').manifests).toHaveLength(2);
    expect(two.manifest('team/app', '1')?.digest).toBe(registry.manifest('team/app', '1')?.digest);
    expect(registry.uploadedBytes()).toBe(0);
    expect(registry.requests.filter(({ step }) => step === 'upload-mount').length).toBeGreaterThanOrEqual(4);
    const sent = result.metadata.blobs.filter(({ what }) => what === 'uploaded');
    expect(sent.map((blob) => blob.registry)).toEqual([two.host, two.host]);
  });

  it('changes nothing in a dry run', async () => {
    const registry = await registryForTest();
    await image(registry, ['team/app', 'a'], LINUX('amd64'));
    const before = writes(registry).length;
    const tags = [`${registry.host}/team/app:1`];
    const { digest, events } = await merge([`${registry.host}/team/app:a`], tags, { 'dry-run': 'true' });
    expect(digest).toBeUndefined();
    expect(writes(registry)).toHaveLength(before);
    expect(events.texts('info')).toContain(`Would put it as ${tags[0]}`);
  });
});

describe('a merge tags nothing', () => {
  const legs = async (options?: Parameters<typeof registryForTest>[0]) => {
    const registry = await registryForTest(options);
    await image(registry, ['team/app', 'part-amd'], LINUX('amd64'));
    await image(registry, ['team/app', 'part-arm'], LINUX('arm64'));
    return { registry, pattern: `${registry.host}/team/app:part-*`, target: `${registry.host}/team/app:1` };
  };

  it('when a platform is missing, or a part, or no tag matches', async () => {
    const { registry, pattern, target } = await legs();
    const before = writes(registry).length;
    await expect(partsOf(pattern, target, { platforms: 'linux/amd64,linux/s390x' }, [1])).rejects.toThrow(
      'no part has linux/s390x, only linux/amd64, linux/arm64; no tag has moved',
    );
    await expect(partsOf(`${registry.host}/team/app:leg-*`, target, {}, [1])).rejects.toThrow(
      `no tag of ${registry.host}/team/app begins with leg-`,
    );
    await expect(partsOf(`${registry.host}/team/app:gone`, target, {}, [1])).rejects.toThrow(
      `${registry.host}/team/app:gone is not there`,
    );
    expect(writes(registry)).toHaveLength(before);
  });

  it('when a platform comes twice with different images', async () => {
    const { registry, pattern, target } = await legs();
    await image(registry, ['team/app', 'part-other'], LINUX('arm64', 'v8'), 'other');
    await expect(merge([pattern], [target])).rejects.toThrow(
      /linux\/arm64.* comes twice: sha256:.*part-.* and sha256:/,
    );
    expect(registry.tags('team/app')).not.toContain('1');
  });

  it('when another registry refuses the index', async () => {
    const refuses: Quirk = {
      name: 'takes no index by its digest',
      before: ({ method, path, headers }) =>
        method === 'PUT' && path.includes('/manifests/sha256:') && headers['content-type'] === MediaType.ociIndex
          ? refusal(400, 'MANIFEST_INVALID', 'no indexes here')
          : undefined,
    };
    const { registry, pattern, target } = await legs();
    const { registry: other, ...more } = await legs({ quirks: [refuses] });
    await expect(merge([pattern, more.pattern], [target, more.target])).rejects.toThrow(
      new RegExp(`${other.host}/team/app: .*no indexes here.*; no tag has moved`),
    );
    for (const { tags } of [registry, other]) expect(tags('team/app')).not.toContain('1');
  });

  it('when a tag is refused: what has moved goes back', async () => {
    let refused = '';
    const refuses: Quirk = {
      name: 'refuses a tag',
      before: ({ method, path }) =>
        method === 'PUT' && refused !== '' && path.endsWith(refused)
          ? refusal(403, 'DENIED', 'not for you')
          : undefined,
    };
    const { registry, pattern, target } = await legs({ quirks: [refuses] });
    const earlier = await image(registry, ['team/app', '1'], LINUX('s390x'));
    refused = '/manifests/latest';
    await expect(
      merge([pattern], [target, `${registry.host}/team/app:new`, `${registry.host}/team/app:latest`]),
    ).rejects.toThrow(/latest: .*not for you.*; no tag has moved/);
    expect(registry.manifest('team/app', '1')?.digest).toBe(earlier.digest);
    expect(registry.tags('team/app').sort()).toEqual(['1', 'part-amd', 'part-arm']);
  });

  it('when the registry does not serve the index that it has taken', async () => {
    let isTaken = false;
    const forgets: Quirk = {
      name: 'serves no index by its digest at first',
      before: ({ method, path }, { store }) => {
        const digest = path.split('/').at(-1) as Digest;
        const found = store.repositories.get('team/app')?.manifests.get(digest);
        if (method !== 'GET' || found?.mediaType !== MediaType.ociIndex || isTaken) return undefined;
        isTaken = true;
        return refusal(404, 'MANIFEST_UNKNOWN', 'not yet');
      },
    };
    const { registry, pattern, target } = await legs({ quirks: [forgets] });
    const { events } = await merge([pattern], [target]);
    expect(registry.tags('team/app')).toContain('1');
    expect(events.texts('info').join()).toContain('is not there; reading it again in 0.5 s');
  });
});

describe('the parts of a merge', () => {
  it('are read again when a registry does not serve yet what was put', async () => {
    const asked: string[] = [];
    const late: Quirk = {
      name: 'lists and serves everything at the second request',
      before: ({ method, path, route: { step } }) => {
        if (method !== 'GET' || !['tags', 'manifest-get', 'blob-get'].includes(step) || asked.includes(path))
          return undefined;
        asked.push(path);
        return step === 'tags'
          ? { ...answer(200), body: '{"tags":null}' }
          : refusal(404, 'MANIFEST_UNKNOWN', 'not yet');
      },
    };
    const registry = await registryForTest({ quirks: [late] });
    await attested(registry, ['team/app', 'part-1'], LINUX('amd64'));
    const { entries } = await partsOf(
      `${registry.host}/team/app:part-*`,
      `${registry.host}/team/app:1`,
      {},
      Array(9).fill(1),
    );
    expect(entries).toHaveLength(2);
    expect(asked.length).toBeGreaterThan(3);
  });

  it('are found on every page of the list of tags, without the tags of the merge', async () => {
    const pages: Quirk = {
      name: 'lists two tags a page',
      before: (exchange) => void (exchange.route.step === 'tags' && exchange.query.set('n', '2')),
    };
    const registry = await registryForTest({ quirks: [pages] });
    const architectures = ['386', 'amd64', 'arm64', 's390x', 'riscv64'];
    for (const one of architectures) await image(registry, ['team/app', `1-${one}`], LINUX(one));
    await image(registry, ['team/app', '2-amd64'], LINUX('amd64'), 'another version');
    const target = `${registry.host}/team/app:1-all`;
    const first = await merge([`${registry.host}/team/app:1-*`], [target]);
    expect(indexOf(registry, 'team/app', '1-all').manifests).toHaveLength(architectures.length);
    expect((await merge([`${registry.host}/team/app:1-*`], [target])).digest).toBe(first.digest);
  });

  it('come through, twelve merges at once, where half of the requests get 429', async () => {
    skipWaits();
    let count = 0;
    const limited: Quirk = {
      name: 'refuses every other request',
      before: () => {
        count += 1;
        return count % 2 === 0 && isLimited
          ? refusal(429, 'TOOMANYREQUESTS', 'too many requests', undefined, { 'Retry-After': '0' })
          : undefined;
      },
    };
    let isLimited = false;
    const registry = await registryForTest({ quirks: [limited] });
    for (const one of ['amd64', 'arm64']) await image(registry, ['team/app', `part-${one}`], LINUX(one));
    isLimited = true;
    const merges = Array.from({ length: 12 }, (_, n) =>
      merge([`${registry.host}/team/app:part-*`], [`${registry.host}/team/app:${n}`], {
        platforms: 'linux/amd64,linux/arm64',
      }),
    );
    const digests = (await Promise.all(merges)).map(({ digest }) => digest);
    expect(new Set(digests).size).toBe(1);
    expect(registry.tags('team/app')).toHaveLength(14);
  });
});

describe('merge-cleanup', () => {
  const cleanedUp = async (quirks: readonly Quirk[]) => {
    const registry = await registryForTest({ quirks });
    const entry = await image(registry, ['team/app', 'part-amd'], LINUX('amd64'));
    await image(registry, ['team/app', 'part-arm'], LINUX('arm64'));
    await image(registry, ['team/app', 'kept'], LINUX('riscv64'));
    const parts = [`${registry.host}/team/app:part-*`, `${registry.host}/team/app:kept`];
    const result = await merge(parts, [`${registry.host}/team/app:1`], { 'merge-cleanup': 'true' });
    return { ...result, registry, entry };
  };

  it('deletes the tags that a * matched, and no other', async () => {
    const { registry, events } = await cleanedUp([]);
    expect(registry.tags('team/app').sort()).toEqual(['1', 'kept']);
    expect(events.texts('info')).toContain(`merge-cleanup: deleted ${registry.host}/team/app:part-arm`);
    expect(events.texts('notice')).toEqual([]);
  });

  it.each([
    [405, 'UNSUPPORTED', 'this registry deletes no tags'],
    [403, 'DENIED', 'not for you'],
  ])('is a notice where the registry refuses it (%d)', async (status, code, text) => {
    const refuses: Quirk = {
      name: 'deletes nothing',
      before: ({ method }) => (method === 'DELETE' ? refusal(status, code, 'not for you') : undefined),
    };
    const { registry, events, failures } = await cleanedUp([refuses]);
    expect(failures).toEqual([]);
    expect(registry.tags('team/app').sort()).toEqual(['1', 'kept', 'part-amd', 'part-arm']);
    const [notice, ...others] = events.texts('notice');
    expect(notice).toContain(`merge-cleanup: ${registry.host}/team/app keeps part-amd, part-arm: `);
    expect(notice).toContain(text);
    expect(others).toEqual([]);
  });

  it('asks for the tokens that it takes to mount and to delete', async () => {
    const credentials = { username: 'pusher', password: 'secret' };
    const registry = await registryForTest({ auth: { bearer: credentials } });
    const login = { ...credentials, cache: 'false' };
    const file = join(await folderForTest(), 'image.tar');
    await writeDockerArchive(file, 'app:1', { seed: 'tokens', layers: [{ bytes: 1000 }] });
    const part = `${registry.host}/team/legs:part-1`;
    const surroundings = { workDir: await folderForTest(), env: {}, remoteCache: false };
    const request = parseRequest({ image: `docker-archive:${file}`, tags: part, ...login }, surroundings);
    await push(request, new Events().report, new AbortController().signal);
    const sent = registry.uploadedBytes();
    const { events } = await merge([part.replace(/1$/, '*')], [`${registry.host}/team/app:1`], {
      ...login,
      'merge-cleanup': 'true',
    });
    expect(events.texts('notice')).toEqual([]);
    expect(registry.tags('team/legs')).toEqual([]);
    expect(registry.tags('team/app')).toEqual(['1']);
    expect(registry.uploadedBytes()).toBe(sent);
  });

  it('puts an image again that a registry has deleted with its tag', async () => {
    const deletes: Quirk = {
      name: 'deletes the image with its tag',
      before: ({ method, route: { reference } }, { store }) => {
        const repository = store.repositories.get('team/app');
        if (method === 'DELETE') repository?.manifests.delete(repository.tags.get(reference) ?? '');
      },
    } as Quirk;
    const { registry, entry } = await cleanedUp([deletes]);
    expect(registry.tags('team/app').sort()).toEqual(['1', 'kept']);
    expect(registry.manifest('team/app', entry.digest)).toBeDefined();
  });
});
