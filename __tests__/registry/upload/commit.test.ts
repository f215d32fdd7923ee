/** A fault at the closing request, after which it is not known whether the blob is there. */
import { describe, expect, it } from 'vitest';
import {
  cutAfter,
  dropAnswer,
  gatewayError,
  registryError,
  resetBefore,
  tooMany,
  truncateAnswer,
} from '../../support/fault-proxy/faults.ts';
import { REPOSITORY } from '../helpers/behind-proxy.ts';
import { bytesOf, knownBody, plain } from './client.ts';
import { BYTES, CHUNK, count, DIGEST, expectStored, proxy, resent, SIZE, server, start } from './proxied-upload.ts';

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
