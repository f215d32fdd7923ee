/** A fault in the middle of an upload: what was stored is asked for, and a session that is lost is opened anew. */
import { describe, expect, it, vi } from 'vitest';
import { Deadline } from '../../../src/registry/http/deadline.ts';
import {
  answerWith,
  cutAfter,
  dropAnswer,
  gatewayError,
  hang,
  outOfRange,
  registryError,
  resetBefore,
  tooMany,
  truncateAnswer,
} from '../../support/fault-proxy/faults.ts';
import { answer } from '../../support/registry/answer.ts';
import { REPOSITORY } from '../helpers/behind-proxy.ts';
import { until, useFakeTimers } from '../helpers/loopback.ts';
import { KIB, knownBody, plain } from './client.ts';
import {
  BYTES,
  CHUNK,
  count,
  DIGEST,
  expectStored,
  proxy,
  resent,
  retries,
  SIZE,
  server,
  start,
  startWith,
} from './proxied-upload.ts';

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
