import { describe, expect, it, onTestFinished, vi } from 'vitest';
import { type Digest, digestOf, MediaType } from '../../src/oci/types.ts';
import type { RegistryEvent } from '../../src/registry/host/context.ts';
import { BlobUnknownError } from '../../src/registry/manifests.ts';
import type { Registry as Client, RegistryOptions } from '../../src/registry/registry.ts';
import type { Repository } from '../../src/registry/repository.ts';
import {
  answerWith,
  cutAfter,
  dropAnswer,
  gatewayError,
  hang,
  registryError,
  slow,
  tooLarge,
  tooMany,
} from '../support/fault-proxy/faults.ts';
import type { FaultProxy } from '../support/fault-proxy/proxy.ts';
import type { FaultRule } from '../support/fault-proxy/rules.ts';
import { answer } from '../support/registry/answer.ts';
import type { ProfileName } from '../support/registry/profiles.ts';
import type { Registry as Server } from '../support/registry/server.ts';
import { startProxied } from './helpers/behind-proxy.ts';
import { bytesOf, digestOfBytes, GrowingBody, imageManifest, KIB, knownBody, plain } from './upload/client.ts';

const { signal } = new AbortController();
const CONFIG = Buffer.from('{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}');
const LAYER = bytesOf(5000, 'layer');

const MANIFEST = imageManifest(CONFIG, [LAYER]);
const DIGEST = digestOf(MANIFEST);

let server: Server;
let proxy: FaultProxy;
let client: Client;
let events: RegistryEvent[];

async function start(
  profile: ProfileName,
  rules: FaultRule[] = [],
  options: Partial<RegistryOptions> = {},
): Promise<Repository> {
  const proxied = await startProxied({ profile }, rules);
  const connected = proxied.connect(options);
  ({ server, proxy } = proxied);
  ({ registry: client, events } = connected);
  return connected.repository;
}

async function withBlobs(profile: ProfileName, ...rules: FaultRule[]): Promise<Repository> {
  const repository = await start(profile, rules);
  await server.addBlob('team/app', CONFIG);
  await server.addBlob('team/app', LAYER);
  return repository;
}

const put = async (repository: Repository, reference = 'v1'): Promise<Digest> =>
  (await repository.putManifest(MANIFEST, MediaType.ociManifest, reference, signal)).digest;

const retries = (): number => events.filter(({ type }) => type === 'retry').length;

describe('blobs', () => {
  it('present with its size, absent, unknown', async () => {
    const repository = await withBlobs('plain');
    expect(await repository.headBlob(digestOf(LAYER), signal)).toEqual({ state: 'present', size: 5000 });
    expect(await repository.headBlob(digestOfBytes(bytesOf(1)), signal)).toEqual({ state: 'absent' });
    proxy.faults.add({ step: 'blob-head', fault: registryError(403, 'DENIED', 'push only') });
    expect(await repository.headBlob(digestOf(LAYER), signal)).toEqual({ state: 'unknown' });
  });

  it('a small blob is read and verified', async () => {
    const repository = await withBlobs('plain');
    expect(await repository.getBlob(digestOf(CONFIG), { maxBytes: 1000, signal })).toEqual(CONFIG);
    expect(await repository.getBlob(digestOfBytes(bytesOf(1)), { maxBytes: 1000, signal })).toBeUndefined();
  });

  it('a blob that is too large or other bytes than its digest is an error', async () => {
    const repository = await withBlobs('plain');
    await expect(repository.getBlob(digestOf(LAYER), { maxBytes: 1000, signal })).rejects.toThrow(
      /longer than 1000 bytes/,
    );
    proxy.faults.add({ step: 'blob-get', fault: answerWith({ ...answer(200), body: 'something else' }) });
    await expect(repository.getBlob(digestOf(CONFIG), { maxBytes: 1000, signal })).rejects.toThrow(
      new RegExp(`14 bytes with the digest sha256:.* in place of ${digestOf(CONFIG)}`),
    );
  });
});

describe('reading manifests', () => {
  it('by tag and by digest; one that is not there', async () => {
    const repository = await withBlobs('plain');
    await put(repository);
    const expected = { mediaType: MediaType.ociManifest, digest: DIGEST, size: MANIFEST.length };
    expect(await repository.headManifest('v1', signal)).toEqual(expected);
    expect(await repository.getManifest('v1', signal)).toEqual({ descriptor: expected, bytes: MANIFEST });
    expect(await repository.getManifest(DIGEST, signal)).toEqual({ descriptor: expected, bytes: MANIFEST });
    expect(await repository.headManifest('v2', signal)).toBeUndefined();
    expect(await repository.getManifest('v2', signal)).toBeUndefined();
  });

  it('a registry without HEAD, and one whose HEAD says too little', async () => {
    const repository = await withBlobs('plain');
    await put(repository);
    proxy.faults.add({ step: 'manifest-head', fault: gatewayError(405) });
    proxy.faults.add({ step: 'manifest-head', nth: 2, fault: answerWith(answer(200)) });
    expect((await repository.headManifest('v1', signal))?.digest).toBe(DIGEST);
    expect((await repository.headManifest('v1', signal))?.digest).toBe(DIGEST);
  });

  it('other bytes than the digest that was asked for, or than the header says', async () => {
    const repository = await withBlobs('plain');
    const lie = answerWith({ ...answer(200, { 'Docker-Content-Digest': DIGEST }), body: '{}' });
    proxy.faults.add({ step: 'manifest-get', times: 2, fault: lie });
    await expect(repository.getManifest(DIGEST, signal)).rejects.toThrow(/2 bytes with the digest/);
    await expect(repository.getManifest('v1', signal)).rejects.toThrow(/2 bytes with the digest/);
  });

  // The digest that names it is that of its payload, without the signatures in it.
  it('one of schema 1 is refused for what it is', async () => {
    const headers = {
      'Content-Type': 'application/vnd.docker.distribution.manifest.v1+prettyjws',
      'Docker-Content-Digest': DIGEST,
    };
    const old = { ...answer(200, headers), body: '{"schemaVersion":1,"fsLayers":[],"signatures":[]}' };
    const repository = await start('plain', [{ step: 'manifest-get', fault: answerWith(old) }]);
    await expect(repository.getManifest('v1', signal)).rejects.toThrow(
      /the manifest .*:v1 has schemaVersion 1 instead of 2/,
    );
  });

  it('one over 4 MiB is not read', async () => {
    const repository = await start('plain', [
      { step: 'manifest-get', fault: answerWith({ ...answer(200), body: 'x'.repeat(4 * 2 ** 20 + 1) }) },
    ]);
    await expect(repository.getManifest('v1', signal)).rejects.toThrow(/longer than 4194304 bytes/);
  });
});

describe('putting manifests', () => {
  it.each([
    'plain',
    'serverless',
    'distribution2',
    'distribution3',
    'zot',
    'quay',
    'gitea',
    'ecr',
    'ghcr',
    'gar',
    'acr',
  ] as const)('at %s: stored, confirmed, served', async (profile) => {
    const repository = await withBlobs(profile);
    expect(await put(repository)).toBe(DIGEST);
    expect(await put(repository, DIGEST)).toBe(DIGEST);
    expect(server.manifest('team/app', 'v1')?.digest).toBe(DIGEST);
  });

  it.each(['plain', 'serverless', 'distribution2'] as const)('blobs that %s lacks are named', async (profile) => {
    const repository = await start(profile);
    const error = await put(repository).catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(BlobUnknownError);
    const named = [...(error as BlobUnknownError).digests].sort();
    // serverless-registry names the first one only.
    const missing = [digestOf(CONFIG), digestOf(LAYER)].sort();
    expect(named.length).toBeGreaterThan(0);
    expect(missing).toEqual(expect.arrayContaining(named));
    expect(retries()).toBe(0);
  });

  it('all of a hundred missing blobs are named', async () => {
    const digests = Array.from({ length: 100 }, (_, n) => digestOf(Buffer.from(`${n}`)));
    const errors = digests.map((digest) => ({
      code: 'MANIFEST_BLOB_UNKNOWN',
      message: 'blob unknown to registry',
      detail: { Digest: digest },
    }));
    const fault = answerWith({
      ...answer(404, { 'Content-Type': 'application/json' }),
      body: JSON.stringify({ errors }),
    });
    const repository = await start('plain', [{ step: 'manifest-put', fault }]);
    await expect(put(repository)).rejects.toMatchObject({ digests });
  });

  it('upload again without believing HEAD, and put again (pull fallback of serverless-registry)', async () => {
    const repository = await start('serverless');
    for (const blob of [CONFIG, LAYER]) server.fallback.set(digestOf(blob), blob);
    expect((await repository.uploadBlob(knownBody(CONFIG), plain())).what).toBe('exists');
    await expect(put(repository)).rejects.toBeInstanceOf(BlobUnknownError);
    for (const blob of [CONFIG, LAYER]) {
      expect((await repository.uploadBlob(knownBody(blob), { ...plain(), uploadAgain: true })).what).toBe('uploaded');
    }
    expect(await put(repository)).toBe(DIGEST);
  });

  it.each([
    ['429', tooMany(2)],
    ['503', gatewayError(503)],
    ['a lost answer', dropAnswer],
    ['a cut', cutAfter(10)],
  ])('%s: again', async (_, fault) => {
    const repository = await withBlobs('plain', { step: 'manifest-put', fault });
    expect(await put(repository)).toBe(DIGEST);
    expect(retries()).toBe(1);
  });

  it('an immutable tag that our own lost request has made', async () => {
    const repository = await withBlobs(
      'plain',
      { step: 'manifest-put', fault: dropAnswer },
      {
        step: 'manifest-put',
        nth: 2,
        fault: registryError(400, 'TAG_INVALID', 'The image tag v1 already exists and is immutable'),
      },
    );
    expect(await put(repository)).toBe(DIGEST);
  });

  it('an immutable tag of somebody else is final', async () => {
    const repository = await withBlobs('plain', {
      step: 'manifest-put',
      fault: registryError(400, 'TAG_INVALID', 'The image tag v1 already exists and is immutable'),
    });
    await expect(put(repository)).rejects.toThrow(
      /putting a manifest: PUT .*400 Bad Request: TAG_INVALID: .*immutable/,
    );
    expect(retries()).toBe(0);
  });

  it('a registry that does not name the digest is asked for the manifest', async () => {
    const repository = await withBlobs('plain', { step: 'manifest-put', fault: answerWith(answer(201), 'after') });
    expect(await put(repository)).toBe(DIGEST);
    expect(server.requests.at(-1)?.step).toBe('manifest-get');
  });

  it('a registry that did not keep the manifest, or calls it something else, is not believed', async () => {
    const other = digestOf(Buffer.from('other'));
    const repository = await withBlobs(
      'plain',
      { step: 'manifest-put', fault: answerWith(answer(201)) },
      { step: 'manifest-put', nth: 2, fault: answerWith(answer(201, { 'Docker-Content-Digest': other })) },
    );
    await expect(put(repository)).rejects.toThrow(/does not serve the manifest that was put/);
    await expect(put(repository)).rejects.toThrow(new RegExp(`calls it ${other}`));
  });

  it('a manifest is not put under a digest that is not its own', async () => {
    const repository = await withBlobs('plain');
    await expect(put(repository, digestOf(LAYER))).rejects.toThrow(/cannot be put as/);
    expect(server.requests).toEqual([]);
  });

  it('tries that are used up, and a body that is too large', async () => {
    const repository = await withBlobs('plain', { step: 'manifest-put', times: 4, fault: gatewayError(500) });
    await expect(put(repository)).rejects.toThrow(
      /^manifest v1: gave up after 4 failed tries without progress \(max-retries: 3\): .*500/,
    );
    proxy.faults.add({ step: 'manifest-put', nth: 1, fault: tooLarge() });
    await expect(put(repository)).rejects.toMatchObject({ status: 413 });
  });
});

describe('closing', () => {
  it('ten uploads that are stopped leave no session', async () => {
    const repository = await start('plain', [], { chunkSize: 64 * KIB });
    const controller = new AbortController();
    const bodies = Array.from({ length: 10 }, (_, n) => new GrowingBody(bytesOf(300 * KIB, `${n}`)));
    const uploads = bodies.map((body) => repository.uploadBlob(body, { signal: controller.signal, label: 'layer' }));
    for (const body of bodies) body.grow(200 * KIB);
    await expect.poll(() => server.openSessions()).toBe(10);
    controller.abort(new Error('SIGTERM'));
    const results = await Promise.allSettled(uploads);
    expect(results.every(({ status }) => status === 'rejected')).toBe(true);
    await client.close();
    expect(server.openSessions()).toBe(0);
  });

  it('a session whose opening was still under way is deleted too', async () => {
    const gate = Promise.withResolvers<void>();
    const repository = await start('plain', [{ step: 'upload-post', fault: slow({ answerAfter: gate.promise }) }]);
    const controller = new AbortController();
    const upload = repository.uploadBlob(knownBody(LAYER), { signal: controller.signal, label: 'layer' });
    await expect.poll(() => server.openSessions()).toBe(1);
    controller.abort(new Error('SIGTERM'));
    await expect(upload).rejects.toThrow('SIGTERM');
    gate.resolve();
    await client.close();
    expect(server.openSessions()).toBe(0);
  });

  it('a registry that does not answer holds nobody up for long', async () => {
    const repository = await start('plain', [{ step: 'upload-delete', times: 99, fault: hang() }], {
      chunkSize: 64 * KIB,
    });
    const controller = new AbortController();
    const body = new GrowingBody(bytesOf(300 * KIB));
    const upload = repository.uploadBlob(body, { signal: controller.signal, label: 'layer' });
    body.grow(200 * KIB);
    await expect.poll(() => server.openSessions()).toBe(1);
    controller.abort(new Error('SIGTERM'));
    await expect(upload).rejects.toThrow('SIGTERM');
    // The time that it is given passes by hand.
    const over = new AbortController();
    const timeout = vi.spyOn(AbortSignal, 'timeout').mockReturnValue(over.signal);
    onTestFinished(() => timeout.mockRestore());
    let closed = false;
    const closing = client.close().then(() => {
      closed = true;
    });
    // It waits for an answer to its DELETE.
    await expect.poll(() => proxy.stats.faults).toBeGreaterThan(0);
    expect(closed).toBe(false);
    over.abort();
    await closing;
    for (const [ms] of timeout.mock.calls) expect(ms).toBeLessThan(3000);
    expect(timeout).toHaveBeenCalled();
  });
});
