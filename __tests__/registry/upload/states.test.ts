/** Each tier of the upload with a fault at that very place, through the fault proxy in front of a registry of the kind that needs it. */
import { readFile } from 'node:fs/promises';
import { describe, expect, it, vi } from 'vitest';
import type { RegistryEvent } from '../../../src/registry/host/context.ts';
import { profileFor } from '../../../src/registry/host/profiles.ts';
import { Deadline } from '../../../src/registry/http/deadline.ts';
import type { Registry as Client, RegistryOptions } from '../../../src/registry/registry.ts';
import type { Repository } from '../../../src/registry/repository.ts';
import {
  answerWith,
  cutAfter,
  dropAnswer,
  gatewayError,
  hang,
  outOfRange,
  registryError,
  resetBefore,
  tooLarge,
  tooMany,
  truncateAnswer,
} from '../../support/fault-proxy/faults.ts';
import type { FaultProxy } from '../../support/fault-proxy/proxy.ts';
import type { FaultRule } from '../../support/fault-proxy/rules.ts';
import { answer } from '../../support/registry/answer.ts';
import { type ProfileName, type ProfileOptions, TEST_CREDENTIALS } from '../../support/registry/profiles.ts';
import type { Registry as Server } from '../../support/registry/server.ts';
import { REPOSITORY, startProxied } from '../helpers/behind-proxy.ts';
import { until, useFakeTimers } from '../helpers/loopback.ts';
import { bytesOf, digestOfBytes, GrowingBody, KIB, knownBody, MIB, plain } from './client.ts';

const CHUNK = 256 * KIB;
const SIZE = 4 * CHUNK + 1000;
const BYTES = bytesOf(SIZE, 'tiers');
const DIGEST = digestOfBytes(BYTES);

let server: Server;
let proxy: FaultProxy;
let client: Client;
let events: RegistryEvent[];

type Settings = ProfileOptions & { readonly client?: Partial<RegistryOptions> };

async function start(profile: ProfileName, ...rules: FaultRule[]): Promise<Repository> {
  return startWith(profile, {}, ...rules);
}

async function startWith(profile: ProfileName, settings: Settings, ...rules: FaultRule[]): Promise<Repository> {
  const proxied = await startProxied({ profile, minChunk: 64 * KIB, ...settings }, rules);
  const credentials = { source: 'the test', ...TEST_CREDENTIALS };
  const connected = proxied.connect({ chunkSize: CHUNK, credentials, ...settings.client });
  ({ server, proxy } = proxied);
  ({ registry: client, events } = connected);
  return connected.repository;
}

const retries = (): RegistryEvent[] => events.filter(({ type }) => type === 'retry');

const count = (step: string): number => server.requests.filter((request) => request.step === step).length;

async function expectStored(bytes = BYTES): Promise<void> {
  const digest = digestOfBytes(bytes);
  expect(server.blobs(REPOSITORY)).toContain(digest);
  expect((await readFile(server.blobPath(digest))).equals(bytes)).toBe(true);
}

/** Uploads the test's blob, checks it, and gives the bytes that were sent again. */
async function resent(repository: Repository, body = knownBody(BYTES)): Promise<number> {
  const outcome = await repository.uploadBlob(body, plain());
  await expectStored();
  expect(outcome.what).toBe('uploaded');
  return outcome.bytesResent;
}

describe('checking and opening', () => {
  it.each([
    ['403', registryError(403, 'DENIED', 'no pull')],
    ['405', gatewayError(405)],
  ])('a HEAD that gets %s says nothing: the upload goes on', async (_, fault) => {
    const repository = await start('plain', { step: 'blob-head', fault, times: 9 });
    expect(await resent(repository)).toBe(0);
  });

  it('a HEAD or a POST that fails for a moment is asked again', async () => {
    const repository = await start(
      'plain',
      { step: 'blob-head', fault: gatewayError(503) },
      { step: 'upload-post', fault: dropAnswer },
      { step: 'upload-post', fault: gatewayError(502), nth: 2 },
    );
    expect(await resent(repository)).toBe(0);
    expect(retries()).toHaveLength(3);
  });

  it('a mount that fails in any way costs nothing but itself', async () => {
    const repository = await start('plain', { step: 'upload-mount', fault: gatewayError(500) });
    const outcome = await repository.uploadBlob(knownBody(BYTES), { ...plain(), mountFrom: 'team/base' });
    expect(outcome.what).toBe('uploaded');
    expect([retries(), count('upload-post')]).toEqual([[], 1]);
  });

  it('a name that the registry refuses is final, in its own words', async () => {
    const repository = await start('plain', {
      step: 'upload-post',
      fault: registryError(400, 'NAME_INVALID', 'invalid repository name'),
    });
    await expect(resent(repository)).rejects.toThrow(
      /opening an upload: POST .*400 Bad Request: NAME_INVALID: invalid repository name/,
    );
    expect(retries()).toEqual([]);
  });

  it('a session without a Location is an error of the registry', async () => {
    const repository = await start('plain', { step: 'upload-post', fault: answerWith(answer(202, {})) });
    await expect(resent(repository)).rejects.toThrow(/without saying where \(Location: absent\)/);
  });

  it('ECR hangs up on a repository that nobody made', async () => {
    const repository = await startWith('ecr', {
      madeRepositories: [],
      client: { profile: profileFor('1.dkr.ecr.eu-west-1.amazonaws.com') },
    });
    await expect(resent(repository)).rejects.toMatchObject({
      message: expect.stringMatching(/gave up after 4 failed tries.*POST/),
      remedy: expect.stringMatching(/aws ecr create-repository/),
    });
  });
});

describe('what was stored is asked for, and nothing sent twice without need', () => {
  const AT = { 'the first': 1, 'a middle': 3, 'the last': 5 } as const;

  it.each(Object.entries(AT))('%s chunk is cut: one chunk is sent again at most', async (_, nth) => {
    const repository = await start('plain', { step: 'upload-patch', nth, fault: cutAfter(500) });
    expect(await resent(repository)).toBeLessThanOrEqual(CHUNK);
    expect([count('upload-post'), count('upload-get')]).toEqual([1, 1]);
  });

  it.each(Object.entries(AT))('the answer to %s chunk is lost: nothing is sent again', async (_, nth) => {
    const repository = await start('plain', { step: 'upload-patch', nth, fault: dropAnswer });
    expect(await resent(repository)).toBe(0);
    expect(count('upload-post')).toBe(1);
  });

  it.each(['serverless', 'distribution3', 'quay', 'acr', 'equalparts'] as const)(
    'the answer to a chunk is lost on %s: nothing is sent again',
    async (profile) => {
      const repository = await start(profile, { step: 'upload-patch', nth: 2, fault: dropAnswer });
      expect(await resent(repository)).toBe(0);
    },
  );

  it.each(['serverless', 'distribution3', 'quay', 'acr', 'equalparts'] as const)(
    'a chunk is cut on %s: one chunk is sent again at most',
    async (profile) => {
      const repository = await start(profile, { step: 'upload-patch', nth: 2, fault: cutAfter(100 * KIB) });
      expect(await resent(repository)).toBeLessThanOrEqual(CHUNK);
      expect(count('upload-post')).toBe(1);
    },
  );

  it.each([408, 500, 502, 503, 504, 520, 524])('%i instead of a chunk', async (status) => {
    const repository = await start('plain', { step: 'upload-patch', nth: 2, fault: gatewayError(status) });
    expect(await resent(repository)).toBeLessThanOrEqual(CHUNK);
    expect(count('upload-post')).toBe(1);
  });

  it.each([502, 524])('%i after the chunk was taken: nothing is sent again', async (status) => {
    const repository = await start('plain', { step: 'upload-patch', nth: 2, fault: gatewayError(status, 'after') });
    expect(await resent(repository)).toBe(0);
  });

  it.each([
    ['reset before the chunk', resetBefore],
    ['half an answer', truncateAnswer(20)],
  ])('%s', async (_, fault) => {
    const repository = await start('plain', { step: 'upload-patch', nth: 2, fault });
    expect(await resent(repository)).toBeLessThanOrEqual(CHUNK);
    expect(count('upload-post')).toBe(1);
  });

  it.each(['before', 'after'] as const)(
    'no answer ever: the time-out ends it (%s the registry took it)',
    async (when) => {
      const reached = Promise.withResolvers<void>();
      const held = async () => reached.resolve();
      const timeouts = { header: 200 };
      const rule = { step: 'upload-patch', nth: 2, held, fault: hang(when) } as const;
      const repository = await startWith('plain', { client: { timeouts } }, rule);
      const entered = vi.spyOn(Deadline.prototype, 'enter');
      useFakeTimers();
      const sent = resent(repository);
      await reached.promise;
      await until(() => entered.mock.lastCall?.[0] === 'header');
      const taken = () => server.requests.filter(({ step, endedAt }) => step === 'upload-patch' && endedAt).length;
      if (when === 'after') await until(() => taken() === 2);
      vi.advanceTimersByTime(timeouts.header);
      expect(await sent).toBeLessThanOrEqual(when === 'after' ? 0 : CHUNK);
    },
  );

  it('429 holds for as long as Retry-After says', async () => {
    const repository = await start('plain', { step: 'upload-patch', nth: 2, fault: tooMany(7) });
    await resent(repository);
    expect(retries()).toMatchObject([
      { waitMs: 7000, attempt: 1, reason: expect.stringMatching(/429.*TOOMANYREQUESTS/) },
    ]);
  });

  it('a 416 that tells Location and Range is the answer: no GET', async () => {
    const repository = await start('plain', { step: 'upload-patch', nth: 2, fault: outOfRange(true) });
    expect(await resent(repository)).toBeLessThanOrEqual(CHUNK);
    expect(count('upload-post')).toBe(1);
  });

  it('a bare 416 is asked about by GET', async () => {
    const repository = await start('plain', { step: 'upload-patch', nth: 2, fault: outOfRange(false) });
    expect(await resent(repository)).toBeLessThanOrEqual(CHUNK);
    expect([count('upload-post'), count('upload-get')]).toEqual([1, 1]);
  });

  it('the GET fails too, then works', async () => {
    const repository = await start(
      'plain',
      { step: 'upload-patch', nth: 2, fault: dropAnswer },
      { step: 'upload-get', fault: gatewayError(503) },
      { step: 'upload-get', nth: 2, fault: cutAfter(0) },
    );
    expect(await resent(repository)).toBe(0);
    expect(retries()).toHaveLength(3);
  });

  it('a token that may only push gets 401 for the GET: the 416 tells (serverless-registry)', async () => {
    const repository = await start(
      'serverless',
      { step: 'upload-patch', nth: 2, fault: dropAnswer },
      { step: 'upload-get', times: 9, fault: registryError(401, 'UNAUTHORIZED', 'no pull') },
    );
    expect(await resent(repository)).toBeLessThanOrEqual(CHUNK);
    expect(count('upload-post')).toBe(1);
  });

  it('before a first chunk is sent again, a HEAD sees whether another job has brought the blob', async () => {
    const repository = await start('plain', { step: 'upload-patch', fault: gatewayError(503) });
    const head = proxy.faults.add({
      step: 'blob-head',
      fault: answerWith(answer(200, { 'Content-Length': String(SIZE) })),
      nth: 2,
    });
    const outcome = await repository.uploadBlob(knownBody(BYTES), plain());
    expect([outcome.what, head.hits]).toEqual(['exists', 1]);
  });

  it('as many failures in a row as are allowed, and one more', async () => {
    const repository = await start('plain', {
      step: ['upload-patch', 'upload-get'],
      nth: 2,
      times: 3,
      fault: gatewayError(503),
    });
    await resent(repository);
    expect(retries()).toHaveLength(3);
    proxy.faults.clear();
    server.removeBlob(REPOSITORY, DIGEST);
    proxy.faults.add({ step: ['upload-patch', 'upload-get'], nth: 2, times: 99, fault: gatewayError(503) });
    await expect(resent(repository)).rejects.toThrow(
      /^layer: gave up after 10 min without progress \(max-wait: 10 min\): .*503/,
    );
    await expect.poll(() => server.openSessions()).toBe(0);
  });

  it('progress starts the count anew: every second chunk fails', async () => {
    const rules = [1, 3, 5, 7, 9].map((nth) => ({ step: 'upload-patch', nth, fault: gatewayError(503) }) as const);
    const repository = await startWith('plain', { client: { maxRetries: 1 } }, ...rules);
    await resent(repository);
    expect(retries()).toHaveLength(5);
  });
});

describe('a lost session is opened anew, from byte 0', () => {
  it.each([
    ['distribution2', 3],
    ['zot', 3],
    // It refuses further chunks before it has read them: up to three of them are sent in vain.
    ['gitea', 6],
  ] as const)('a cut chunk ends the session on %s', async (profile, chunks) => {
    const repository = await start(profile, { step: 'upload-patch', nth: 3, fault: cutAfter(1000) });
    const again = await resent(repository);
    expect(again).toBeGreaterThanOrEqual(2 * CHUNK);
    expect(again).toBeLessThanOrEqual(chunks * CHUNK);
    expect(count('upload-post')).toBe(2);
  });

  it('a session that the registry forgets between two chunks', async () => {
    const repository = await start('plain', {
      step: 'upload-patch',
      nth: 3,
      fault: registryError(404, 'BLOB_UPLOAD_UNKNOWN', 'blob upload unknown to registry'),
    });
    expect(await resent(repository)).toBeLessThanOrEqual(3 * CHUNK);
    expect(count('upload-post')).toBe(2);
    await expect.poll(() => server.openSessions()).toBe(0);
  });

  it('an offset that contradicts us twice', async () => {
    const repository = await start(
      'plain',
      { step: 'upload-patch', nth: 2, fault: dropAnswer },
      { step: 'upload-get', times: 2, fault: answerWith(answer(204, { Range: '0-9999999' })) },
    );
    expect(await resent(repository)).toBeLessThanOrEqual(2 * CHUNK);
    expect(count('upload-post')).toBe(2);
  });

  it('an offset that contradicts us once is asked for again', async () => {
    const repository = await start(
      'plain',
      { step: 'upload-patch', nth: 2, fault: dropAnswer },
      { step: 'upload-get', fault: answerWith(answer(204, { Range: '0-1' })) },
    );
    expect(await resent(repository)).toBe(0);
  });

  it('a registry that doubles what is sent again is found out', async () => {
    // distribution 2.8 appends whatever comes: the second answer's Range is ahead of what was sent.
    const repository = await start('distribution2', {
      step: 'upload-patch',
      nth: 2,
      fault: answerWith(answer(202, { Range: `0-${CHUNK - 1}` }), 'after'),
    });
    await resent(repository);
    await expectStored();
  });

  it('a second HEAD comes before the second session: another job may have brought the blob', async () => {
    const repository = await start('zot', { step: 'upload-patch', nth: 3, fault: cutAfter(1000) });
    const body = knownBody(BYTES);
    const upload = repository.uploadBlob(body, { ...plain(), onProgress: () => server.addBlob(REPOSITORY, BYTES) });
    expect((await upload).what).toBe('exists');
    expect(count('upload-post')).toBe(1);
  });

  it('sessions that are lost at the same place again and again come to an end', async () => {
    const repository = await start('plain', {
      step: 'upload-patch',
      nth: 1,
      times: 999,
      where: ({ range }) => range?.start === 2 * CHUNK,
      fault: registryError(404, 'BLOB_UPLOAD_UNKNOWN', 'blob upload unknown to registry'),
    });
    await expect(resent(repository)).rejects.toThrow(/gave up after 11 lost sessions in a row: .*BLOB_UPLOAD_UNKNOWN/);
    expect(count('upload-post')).toBe(11);
  });
});

describe('a body that is too large', () => {
  it('a limit of a proxy is found by halving, told once, and kept for the next blob', async () => {
    const repository = await startWith('limited', { limit: 300 * KIB, client: { chunkSize: MIB } });
    const bytes = bytesOf(3 * MIB, 'large');
    await repository.uploadBlob(knownBody(bytes), plain());
    await expectStored(bytes);
    await repository.uploadBlob(knownBody(BYTES), plain());
    expect(server.requests.filter(({ status }) => status === 413)).toHaveLength(2);
    expect(events.filter(({ type }) => type === 'limit')).toEqual([
      { type: 'limit', host: proxy.host, bytes: CHUNK, announced: false },
    ]);
    expect(client.limitFound).toBe(CHUNK);
    expect(retries()).toEqual([]);
  });

  it('five blobs that meet the limit at once halve it once', async () => {
    const repository = await startWith('limited', { limit: 600 * KIB, client: { chunkSize: MIB } });
    const blobs = Array.from({ length: 5 }, (_, n) => bytesOf(2 * MIB, `blob ${n}`));
    await Promise.all(blobs.map((bytes) => repository.uploadBlob(knownBody(bytes), plain())));
    for (const bytes of blobs) await expectStored(bytes);
    expect(client.limitFound).toBe(MIB / 2);
  });

  it('a 413 to one PUT makes chunks of it', async () => {
    const repository = await start('plain', {
      step: 'upload-put',
      fault: tooLarge(),
      where: ({ length }) => length > 0,
    });
    const bytes = bytesOf(CHUNK, 'one chunk');
    await repository.uploadBlob(knownBody(bytes), plain());
    await expectStored(bytes);
    expect(count('upload-patch')).toBe(2);
  });

  it('GHCR: 416 "exceeds the maximum permissible limit"', async () => {
    const repository = await startWith('ghcr', { maxChunk: 100 * KIB });
    await resent(repository);
    expect(client.limitFound).toBe(64 * KIB);
  });

  it('two resets at one place of the first chunk', async () => {
    const repository = await start('plain', {
      step: 'upload-patch',
      times: 99,
      where: ({ length }) => length > 200 * KIB,
      fault: cutAfter(0),
    });
    await resent(repository);
    expect(client.limitFound).toBe(CHUNK / 2);
  });

  it('two resets of a PUT with the whole blob', async () => {
    const repository = await start('plain', {
      step: ['upload-patch', 'upload-put'],
      times: 99,
      where: ({ length }) => length > 200 * KIB,
      fault: cutAfter(0),
    });
    const bytes = bytesOf(CHUNK, 'whole');
    await repository.uploadBlob(knownBody(bytes), plain());
    await expectStored(bytes);
    expect(client.limitFound).toBe(CHUNK / 2);
  });

  it('two resets of a size that was taken before are bad luck', async () => {
    const repository = await start('plain', { step: 'upload-patch', nth: 2, times: 2, fault: cutAfter(0) });
    await resent(repository);
    expect([client.limitFound, count('upload-post')]).toEqual([undefined, 1]);
  });

  it('a registry that refuses everything: the error says what size', async () => {
    const repository = await start('plain', { step: ['upload-patch', 'upload-put'], times: 99, fault: tooLarge() });
    await expect(resent(repository)).rejects.toMatchObject({
      message: expect.stringMatching(/refuses a body of 65536 bytes: .*413 Request Entity Too Large/),
      remedy: 'raise the body limit of the proxy in front of the registry',
    });
  });

  it('a limit under the registry’s own minimum: the error names both', async () => {
    const repository = await startWith('serverless', { minChunk: CHUNK, limit: 200 * KIB });
    await expect(resent(repository)).rejects.toThrow(
      /refuses a body of 262144 bytes, and the registry asks for chunks of at least 262144 bytes/,
    );
  });
});

describe('a registry without chunks', () => {
  it('Artifact Registry: one PUT, for all blobs that follow', async () => {
    const repository = await startWith('gar', {
      client: { chunkSize: 'auto', profile: { name: 'none', chunkSize: CHUNK } },
    });
    await resent(repository);
    const patches = count('upload-patch');
    await repository.uploadBlob(knownBody(bytesOf(2 * CHUNK, 'next')), plain());
    expect([count('upload-patch'), count('upload-put')]).toEqual([patches, 2]);
    expect(client.limitFound).toBeUndefined();
  });

  it('the profile knows it before', async () => {
    const repository = await startWith('gar', { client: { chunkSize: 'auto', profile: profileFor('eu.gcr.io') } });
    expect(await resent(repository)).toBe(0);
    const body = new GrowingBody(bytesOf(100 * KIB, 'grown'));
    const upload = repository.uploadBlob(body, plain());
    body.grow(50 * KIB);
    body.end();
    await upload;
    expect(count('upload-patch')).toBe(0);
  });

  it.each([405, 501])('%i to the first chunk', async (status) => {
    const repository = await startWith(
      'plain',
      { client: { chunkSize: 'auto', profile: { name: 'none', chunkSize: CHUNK } } },
      { step: 'upload-patch', times: 99, fault: gatewayError(status) },
    );
    await resent(repository);
    expect(count('upload-put')).toBe(1);
  });

  it('404 to the first chunk of every session', async () => {
    const repository = await startWith(
      'plain',
      { client: { chunkSize: 'auto', profile: { name: 'none', chunkSize: CHUNK } } },
      { step: 'upload-patch', times: 99, fault: gatewayError(404) },
    );
    await resent(repository);
    expect(count('upload-post')).toBe(4);
  });

  it.each([
    ['bare', false],
    ['that tells Location and Range', true],
  ])('416 %s to the first chunk of every session: believed the second time', async (_, tells) => {
    const repository = await startWith(
      'plain',
      { client: { chunkSize: 'auto', profile: { name: 'none', chunkSize: CHUNK } } },
      { step: 'upload-patch', times: 99, fault: outOfRange(tells) },
    );
    await resent(repository);
    expect([count('upload-post'), count('upload-put')]).toEqual([3, 1]);
  });

  it.each([
    ['bare', false],
    ['that tells Location and Range', true],
  ])('416 %s to the very first chunk, once: a fresh session takes the chunks', async (_, tells) => {
    const repository = await start('plain', { step: 'upload-patch', fault: outOfRange(tells) });
    expect(await resent(repository)).toBeLessThanOrEqual(CHUNK);
    expect([count('upload-post'), retries().length]).toEqual([2, 1]);
    expect(server.requests.filter(({ step, status }) => step === 'upload-patch' && status === 202)).toHaveLength(5);
  });

  it.each([0, 1])('416 to every first chunk, %i retries allowed: no more sessions than that', async (maxRetries) => {
    const repository = await startWith(
      'plain',
      { client: { chunkSize: 'auto', profile: { name: 'none', chunkSize: CHUNK }, maxRetries } },
      { step: 'upload-patch', times: 99, fault: outOfRange(true) },
    );
    await resent(repository);
    expect([count('upload-post'), count('upload-put'), retries().length]).toEqual([maxRetries + 2, 1, maxRetries]);
  });

  it('a bare 416 that uses up the only retry is believed', async () => {
    const repository = await startWith(
      'plain',
      { client: { chunkSize: 'auto', profile: { name: 'none', chunkSize: CHUNK }, maxRetries: 1 } },
      { step: 'upload-patch', times: 99, fault: outOfRange(false) },
    );
    await resent(repository);
    expect([count('upload-post'), count('upload-put')]).toEqual([2, 1]);
  });

  it('a blob over the known limit: the error names both', async () => {
    const repository = await start('gar');
    await expect(resent(repository)).rejects.toThrow(
      new RegExp(
        `takes no chunks \\(.*UNSUPPORTED.*\\), and one body may have ${CHUNK} bytes at most: the blob has ${SIZE}`,
      ),
    );
  });
});

describe('it is not known whether the blob is there', () => {
  it.each([
    ['the answer is lost', dropAnswer],
    ['524 after the registry closed it', gatewayError(524, 'after')],
    ['500 after the registry closed it', gatewayError(500, 'after')],
    ['404 after the registry closed it', gatewayError(404, 'after')],
    ['half an answer', truncateAnswer(30)],
  ])('%s: the HEAD finds it', async (_, fault) => {
    for (const size of [1000, SIZE]) {
      const repository = await start('plain', { step: 'upload-put', fault });
      const bytes = bytesOf(size, 'closed');
      const outcome = await repository.uploadBlob(knownBody(bytes), plain());
      await expectStored(bytes);
      expect(outcome).toMatchObject({ what: 'uploaded', bytesResent: 0 });
    }
  });

  it.each([
    ['502', gatewayError(502)],
    ['429', tooMany(1)],
    ['a reset', resetBefore],
  ])('%s before the registry saw it: the empty PUT again, no byte', async (_, fault) => {
    const repository = await start('plain', { step: 'upload-put', fault });
    expect(await resent(repository)).toBe(0);
    expect(count('upload-post')).toBe(1);
  });

  it('serverless-registry: 500, and a session that says 204 and is dead', async () => {
    const repository = await start('serverless', { step: 'upload-put', fault: gatewayError(500), times: 2 });
    expect(await resent(repository)).toBe(SIZE);
    expect(count('upload-post')).toBe(2);
  });

  it('a blob that appears only after seconds', async () => {
    const repository = await start(
      'plain',
      { step: 'upload-put', fault: dropAnswer },
      { step: 'blob-head', nth: 2, times: 2, fault: gatewayError(404) },
    );
    expect(await resent(repository)).toBe(0);
  });

  it('a PUT with the whole blob that was cut: a new session', async () => {
    const bytes = bytesOf(CHUNK, 'whole');
    const repository = await start('plain', { step: 'upload-put', fault: cutAfter(1000) });
    const outcome = await repository.uploadBlob(knownBody(bytes), plain());
    await expectStored(bytes);
    expect(outcome.bytesResent).toBeLessThanOrEqual(CHUNK);
    expect(count('upload-post')).toBe(2);
  });

  it('wrong bytes: once more from the start, then final', async () => {
    const fault = registryError(400, 'DIGEST_INVALID', 'provided digest did not match uploaded content');
    const repository = await start('plain', { step: 'upload-put', fault });
    expect(await resent(repository)).toBe(SIZE);
    server.removeBlob(REPOSITORY, DIGEST);
    proxy.faults.add({ step: 'upload-put', fault, times: 2 });
    await expect(resent(repository)).rejects.toThrow(/closing an upload: PUT .*DIGEST_INVALID/);
  });

  it('a registry that never closes: the count of tries ends it', async () => {
    const repository = await start('plain', { step: 'upload-put', fault: gatewayError(500), times: 99 });
    await expect(resent(repository)).rejects.toThrow(
      /gave up after 4 failed tries to close it \(max-retries: 3\): .*500/,
    );
    await expect.poll(() => server.openSessions()).toBe(0);
  });

  it('the HEAD is not asked when it is not believed', async () => {
    const repository = await start('serverless', { step: 'upload-put', fault: gatewayError(502) });
    server.fallback.set(DIGEST, BYTES);
    const outcome = await repository.uploadBlob(knownBody(BYTES), { ...plain(), uploadAgain: true });
    expect(outcome).toMatchObject({ what: 'uploaded', bytesResent: 0 });
    expect(count('blob-head')).toBe(0);
    await expectStored();
  });
});

describe('ECR', () => {
  const ecr = profileFor('1.dkr.ecr.eu-west-1.amazonaws.com');

  it('by its profile: no question, the last chunk in the PUT, nothing sent again', async () => {
    const repository = await startWith('ecr', { client: { profile: ecr } });
    expect(await resent(repository)).toBe(0);
    expect([count('upload-get'), count('upload-patch')]).toEqual([0, 4]);
    expect(server.requests.at(-1)).toMatchObject({
      bytes: 1000,
      headers: { 'content-range': `${4 * CHUNK}-${SIZE - 1}` },
    });
  });

  it('without its profile: learnt, once', async () => {
    const repository = await start('ecr');
    await resent(repository);
    const next = bytesOf(SIZE, 'next');
    const outcome = await repository.uploadBlob(knownBody(next), plain());
    await expectStored(next);
    expect(outcome.bytesResent).toBe(0);
  });
});

it('a blob over 5 GiB on serverless-registry is said to be too large before it is sent', async () => {
  const repository = await start('serverless', { step: 'upload-patch', fault: registryError(403, 'DENIED', 'enough') });
  const body = knownBody(BYTES);
  const large = { ...body, identity: { digest: DIGEST, size: 6 * 2 ** 30 } };
  await expect(repository.uploadBlob(large, plain('layer a'))).rejects.toThrow(/DENIED/);
  expect(events).toContainEqual({ type: 'warning', text: expect.stringMatching(/^layer a is larger than 5 GiB/) });
});

it('answers about who is asking are final', async () => {
  const repository = await start('plain', {
    step: 'upload-patch',
    nth: 2,
    fault: registryError(403, 'DENIED', 'quota exceeded'),
  });
  await expect(resent(repository)).rejects.toMatchObject({
    status: 403,
    message: expect.stringMatching(/DENIED: quota exceeded/),
  });
  expect(retries()).toEqual([]);
  await expect.poll(() => server.openSessions()).toBe(0);
});
