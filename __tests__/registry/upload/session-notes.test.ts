/** Sessions opened while the blob is asked for, sessions of an earlier process, and sessions that are given up. */
import { describe, expect, it } from 'vitest';
import type { SessionNote } from '../../../src/blob/blob.ts';
import type { RegistryOptions } from '../../../src/registry/registry.ts';
import type { Repository } from '../../../src/registry/repository.ts';
import { gatewayError, hang, registryError, resetBefore, slow } from '../../support/fault-proxy/faults.ts';
import type { FaultRule } from '../../support/fault-proxy/rules.ts';
import { PROFILE_NAMES, type ProfileName, TEST_CREDENTIALS } from '../../support/registry/profiles.ts';
import { type Proxied, REPOSITORY, startProxied } from '../helpers/behind-proxy.ts';
import { bytesOf, digestOfBytes, KIB, knownBody, plain } from './client.ts';

const CHUNK = 256 * KIB;
const BYTES = bytesOf(4 * CHUNK + 1000, 'session notes');
const SMALL = bytesOf(1000, 'small');
const DIGEST = digestOfBytes(BYTES);

interface Started extends Proxied {
  /** As another process would see it: a client that knows nothing of the ones before. */
  repository(options?: Partial<RegistryOptions>): Repository;
  count(step: string): number;
}

async function start(profile: ProfileName, ...rules: FaultRule[]): Promise<Started> {
  const proxied = await startProxied({ profile, minChunk: 64 * KIB }, rules);
  const credentials = { source: 'the test', ...TEST_CREDENTIALS };
  const connect: Proxied['connect'] = (options) => proxied.connect({ chunkSize: CHUNK, credentials, ...options });
  return {
    ...proxied,
    connect,
    repository: (options) => connect(options).repository,
    count: (step) => proxied.server.requests.filter((request) => request.step === step).length,
  };
}

const ahead = { ...plain(), openWhileAsking: true };

describe('a session that is opened while the blob is asked for', () => {
  it('is used when the blob is absent: no request waits for another', async () => {
    let release = (): void => {};
    const held = new Promise<void>((resolve) => {
      release = resolve;
    });
    const fault = slow({ answerAfter: held });
    const { repository, count, server } = await start('plain', { step: 'blob-head', nth: 2, fault });
    const pushed = repository();
    // A first request tells scheme and challenge; what goes out beside it waits for its answer.
    await pushed.headBlob(DIGEST, ahead.signal);
    const outcome = pushed.uploadBlob(knownBody(SMALL), ahead);
    // HEAD is answered only after the session was opened.
    await expect.poll(() => server.openSessions()).toBe(1);
    release();
    expect((await outcome).what).toBe('uploaded');
    expect([count('blob-head'), count('upload-post'), count('upload-put')]).toEqual([2, 1, 1]);
    expect(server.openSessions()).toBe(0);
  });

  it('is deleted when the blob is there', async () => {
    const { repository, count, server } = await start('plain');
    await server.addBlob(REPOSITORY, BYTES);
    expect((await repository().uploadBlob(knownBody(BYTES), ahead)).what).toBe('exists');
    await expect.poll(() => [count('upload-delete'), server.openSessions()]).toEqual([1, 0]);
    expect(count('upload-patch')).toBe(0);
  });

  it('is deleted when it opens after the blob was found, which is not waited for', async () => {
    let release = (): void => {};
    const held = new Promise<void>((resolve) => {
      release = resolve;
    });
    const fault = slow({ answerAfter: held });
    const { repository, count, server } = await start('plain', { step: 'upload-post', fault });
    await server.addBlob(REPOSITORY, BYTES);
    const pushed = repository();
    // A first request tells scheme and challenge; what goes out beside it waits for its answer.
    await pushed.headBlob(digestOfBytes(SMALL), ahead.signal);
    expect((await pushed.uploadBlob(knownBody(BYTES), ahead)).what).toBe('exists');
    expect(count('upload-delete')).toBe(0);
    release();
    await expect.poll(() => [count('upload-delete'), server.openSessions()]).toEqual([1, 0]);
  });

  it('is not opened by a caller that thinks the blob is there', async () => {
    const { repository, count, server } = await start('plain');
    await server.addBlob(REPOSITORY, BYTES);
    expect((await repository().uploadBlob(knownBody(BYTES), plain())).what).toBe('exists');
    expect([count('upload-post'), server.openSessions()]).toEqual([0, 0]);
  });

  it('is deleted when the HEAD fails for good', async () => {
    const fault = registryError(401, 'UNAUTHORIZED', 'who are you');
    const { repository, server, count } = await start('plain', { step: 'blob-head', fault, times: 9 });
    await expect(repository().uploadBlob(knownBody(BYTES), ahead)).rejects.toThrow(/HEAD .*401/);
    await expect.poll(() => [count('upload-post'), server.openSessions()]).toEqual([1, 0]);
  });

  it('survives a HEAD that fails for a while', async () => {
    const { repository, count, server } = await start('plain', {
      step: 'blob-head',
      fault: gatewayError(502),
      times: 3,
    });
    expect((await repository().uploadBlob(knownBody(BYTES), ahead)).what).toBe('uploaded');
    expect([count('upload-post'), server.openSessions()]).toEqual([1, 0]);
  });

  it('may fail to open where it is not needed', async () => {
    const { repository, server } = await start('plain', { step: 'upload-post', fault: gatewayError(500), times: 99 });
    await server.addBlob(REPOSITORY, BYTES);
    expect((await repository().uploadBlob(knownBody(BYTES), ahead)).what).toBe('exists');
  });

  it('that cannot be opened ends the upload, after the tries of one request', async () => {
    const { repository, proxy } = await start('plain');
    const rule = proxy.faults.add({ step: 'upload-post', fault: gatewayError(500), times: 99 });
    await expect(repository().uploadBlob(knownBody(BYTES), ahead)).rejects.toThrow(/max-retries: 3.*POST/);
    expect(rule.hits).toBe(4);
  });

  it.each(['hub', 'gitlab'] as const)('waits for a token that comes late, like the HEAD: %s', async (profile) => {
    const late = { step: 'token', fault: slow({ answerAfter: 300 }) } as const;
    const { repository, server } = await start(profile, late);
    expect((await repository().uploadBlob(knownBody(BYTES), ahead)).what).toBe('uploaded');
    expect(server.openSessions()).toBe(0);
  });

  it('goes over another connection when the one opened early has died', async () => {
    const { repository } = await start('plain', { step: 'upload-post', fault: resetBefore });
    expect((await repository().uploadBlob(knownBody(BYTES), ahead)).what).toBe('uploaded');
  });
});

/** Uploads until half of the blob is confirmed, then ends like a killed process: nothing is deleted. Returns what was noted. */
async function interrupted({ repository, proxy }: Started): Promise<SessionNote> {
  const notes: (SessionNote | undefined)[] = [];
  const controller = new AbortController();
  const kill = async () => controller.abort(new Error('killed'));
  const stuck = proxy.faults.add({ step: 'upload-patch', nth: 3, held: kill, fault: hang('before') });
  const onSession = (note: SessionNote | undefined): void => void notes.push(note);
  await expect(
    repository().uploadBlob(knownBody(BYTES), { label: 'layer', signal: controller.signal, onSession }),
  ).rejects.toThrow('killed');
  stuck.remove();
  expect(notes.map((note) => note?.offset)).toEqual([0, CHUNK, 2 * CHUNK]);
  return notes.at(-1)!;
}

const SURVIVING: readonly ProfileName[] = ['plain', 'distribution2', 'distribution3', 'serverless', 'quay', 'acr'];

describe('a session of an earlier process', () => {
  it.each(SURVIVING)('goes on where it was: %s', async (profile) => {
    const started = await start(profile);
    const resume = await interrupted(started);
    expect(resume.chunkSize).toBe(CHUNK);
    const posts = started.count('upload-post');
    const notes: (SessionNote | undefined)[] = [];
    const outcome = await started
      .repository()
      .uploadBlob(knownBody(BYTES), { ...plain(), resume, onSession: (note) => notes.push(note) });
    expect([outcome.what, outcome.bytesSent]).toEqual(['uploaded', BYTES.length - 2 * CHUNK]);
    expect(started.count('upload-post')).toBe(posts);
    expect(started.server.blobs(REPOSITORY)).toContain(DIGEST);
    // Its end is noted as well.
    expect(notes.at(-1)).toBeUndefined();
    expect(notes.length).toBeGreaterThan(2);
  });

  it.each([
    ['is gone', 'nonsense'],
    ['is at no URL', 'http://['],
    ['is on another host', 'http://10.255.255.1:1/v2/team/app/blobs/uploads/1'],
    ['is in another scheme', 'file:///etc/passwd'],
  ])('that %s is replaced by a new one', async (_, location) => {
    const { repository, server, count } = await start('plain');
    const timeouts = { connect: 200 };
    const outcome = await repository({ timeouts }).uploadBlob(knownBody(BYTES), { ...plain(), resume: { location } });
    expect([outcome.what, outcome.bytesSent, count('upload-post')]).toEqual(['uploaded', BYTES.length, 1]);
    expect(server.openSessions()).toBe(0);
  });

  it('that holds other bytes is given up when it cannot be closed', async () => {
    const started = await start('plain');
    const resume = await interrupted(started);
    const other = bytesOf(BYTES.length, 'another blob');
    const outcome = await started.repository().uploadBlob(knownBody(other), { ...plain(), resume });
    expect(outcome.what).toBe('uploaded');
    expect(started.server.blobs(REPOSITORY)).toEqual([digestOfBytes(other)]);
  });

  it('is not asked for when the blob has come meanwhile', async () => {
    const started = await start('plain');
    const resume = await interrupted(started);
    await started.server.addBlob(REPOSITORY, BYTES);
    const asked = started.count('upload-get');
    expect((await started.repository().uploadBlob(knownBody(BYTES), { ...plain(), resume })).what).toBe('exists');
    expect(started.count('upload-get')).toBe(asked);
  });
});

it.each(PROFILE_NAMES.filter((name) => name !== 'hub'))('a cancelled upload leaves no session: %s', async (profile) => {
  const controller = new AbortController();
  const cancel = async () => controller.abort(new Error('cancelled'));
  // GAR takes no chunks: there it is the one PUT that is under way.
  const at = profile === 'gar' ? ({ step: 'upload-put' } as const) : ({ step: 'upload-patch', nth: 2 } as const);
  const started = await start(profile, { ...at, held: cancel, fault: hang('before') });
  const { registry, repository } = started.connect(profile === 'gar' ? { chunkSize: 'auto' } : {});
  const options = { label: 'layer', signal: controller.signal };
  await expect(repository.uploadBlob(knownBody(BYTES), options)).rejects.toThrow('cancelled');
  await registry.close();
  expect(started.server.openSessions()).toBe(0);
});

it('distribution 3 deletes a session whose chunk broke: at the Location that a status query names', async () => {
  const started = await start('distribution3', { step: 'upload-patch', nth: 3, fault: hang('after') });
  const { registry, repository } = started.connect();
  const controller = new AbortController();
  const upload = repository.uploadBlob(knownBody(BYTES), { label: 'layer', signal: controller.signal });
  // The registry has taken a chunk whose answer, and so the new Location, never came.
  await expect.poll(() => started.count('upload-patch')).toBe(3);
  controller.abort(new Error('cancelled'));
  await upload.catch(() => {});
  await registry.close();
  const deletes = started.server.requests.filter(({ step }) => step === 'upload-delete').map(({ status }) => status);
  expect([deletes[0], deletes.at(-1), started.server.openSessions()]).toEqual([416, 204, 0]);
});
