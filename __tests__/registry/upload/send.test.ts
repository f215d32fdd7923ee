/** Bodies that are too large, and registries that take no chunks. */
import { describe, expect, it } from 'vitest';
import { profileFor } from '../../../src/registry/host/profiles.ts';
import { cutAfter, gatewayError, outOfRange, tooLarge } from '../../support/fault-proxy/faults.ts';
import { bytesOf, GrowingBody, KIB, knownBody, MIB, plain } from './client.ts';
import {
  BYTES,
  CHUNK,
  client,
  count,
  events,
  expectStored,
  proxy,
  resent,
  retries,
  SIZE,
  server,
  start,
  startWith,
} from './proxied-upload.ts';

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
