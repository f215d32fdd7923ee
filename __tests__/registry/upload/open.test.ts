/** A fault where an upload begins: the HEAD, the mount, the POST; and what registries refuse there. */
import { describe, expect, it } from 'vitest';
import { profileFor } from '../../../src/registry/host/profiles.ts';
import { answerWith, dropAnswer, gatewayError, registryError } from '../../support/fault-proxy/faults.ts';
import { answer } from '../../support/registry/answer.ts';
import { bytesOf, knownBody, plain } from './client.ts';
import {
  BYTES,
  CHUNK,
  count,
  DIGEST,
  events,
  expectStored,
  resent,
  retries,
  SIZE,
  server,
  start,
  startWith,
} from './proxied-upload.ts';

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
