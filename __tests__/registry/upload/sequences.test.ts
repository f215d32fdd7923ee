/**
 * The sequences of the OCI conformance suite (distribution-spec, conformance/02_push_test.go) turned round: there a client of
 * known behaviour tests registries, here registries of known behaviour test the client.
 */
import { readFile } from 'node:fs/promises';
import { afterEach, describe, expect, it } from 'vitest';
import type { Registry as Client } from '../../../src/registry/registry.ts';
import {
  PROFILE_NAMES,
  type ProfileName,
  type ProfileOptions,
  TEST_CREDENTIALS,
} from '../../support/registry/profiles.ts';
import { type Registry as Server, startRegistry } from '../../support/registry/server.ts';
import { bytesOf, connect, digestOfBytes, GrowingBody, KIB, knownBody, MIB, plain } from './client.ts';

const CHUNK = 256 * KIB;
const REPOSITORY = 'team/app';

let server: Server;
let client: Client;

afterEach(async () => {
  await client.close();
  await server.close();
});

async function start(profile: ProfileName, options: ProfileOptions = {}, chunkSize: number | 'auto' = CHUNK) {
  server = await startRegistry({ profile, minChunk: 64 * KIB, ...options });
  const connected = connect(server.host, { chunkSize, credentials: { source: 'the test', ...TEST_CREDENTIALS } });
  client = connected.registry;
  return { ...connected, repository: client.repository(REPOSITORY) };
}

/** The uploading requests in order: method, Content-Range or `-`, bytes. */
const sent = (): string[] =>
  server.requests
    .filter(({ step, repository }) => step.startsWith('upload-') && repository === REPOSITORY)
    .map(({ method, headers, bytes }) => `${method} ${headers['content-range'] ?? '-'} ${bytes}`);

async function stored(bytes: Buffer): Promise<boolean> {
  const digest = digestOfBytes(bytes);
  return server.blobs(REPOSITORY).includes(digest) && (await readFile(server.blobPath(digest))).equals(bytes);
}

describe('what goes over the wire', () => {
  it('a small blob: POST, one PUT', async () => {
    const { repository } = await start('plain');
    const bytes = bytesOf(1000);
    const outcome = await repository.uploadBlob(knownBody(bytes), plain());
    expect(sent()).toEqual(['POST - 0', 'PUT - 1000']);
    expect(outcome).toMatchObject({ what: 'uploaded', bytesSent: 1000, bytesResent: 0, retries: 0 });
    expect(await stored(bytes)).toBe(true);
  });

  it('an empty blob: POST, an empty PUT', async () => {
    const { repository } = await start('plain');
    await repository.uploadBlob(knownBody(Buffer.alloc(0)), plain());
    expect(sent()).toEqual(['POST - 0', 'PUT - 0']);
    expect(server.requests.at(-1)?.headers['content-length']).toBe('0');
    expect(await stored(Buffer.alloc(0))).toBe(true);
  });

  it('exactly one chunk: one PUT', async () => {
    const { repository } = await start('plain');
    await repository.uploadBlob(knownBody(bytesOf(CHUNK)), plain());
    expect(sent()).toEqual(['POST - 0', `PUT - ${CHUNK}`]);
  });

  it('one chunk and one byte: two PATCHes, an empty PUT', async () => {
    const { repository } = await start('plain');
    const bytes = bytesOf(CHUNK + 1);
    await repository.uploadBlob(knownBody(bytes), plain());
    expect(sent()).toEqual(['POST - 0', `PATCH 0-${CHUNK - 1} ${CHUNK}`, `PATCH ${CHUNK}-${CHUNK} 1`, 'PUT - 0']);
    expect(await stored(bytes)).toBe(true);
  });

  it('a last byte has no Content-Range where chunk lengths are announced', async () => {
    const { repository } = await start('serverless');
    const bytes = bytesOf(CHUNK + 1);
    await repository.uploadBlob(knownBody(bytes), plain());
    expect(sent()).toContain('PATCH - 1');
    expect(await stored(bytes)).toBe(true);
  });

  it('several chunks: all equal but the last, which is smaller', async () => {
    const { repository } = await start('plain');
    const bytes = bytesOf(3 * CHUNK + 5);
    await repository.uploadBlob(knownBody(bytes), plain());
    expect(sent().map((line) => Number(line.split(' ')[2]))).toEqual([0, CHUNK, CHUNK, CHUNK, 5, 0]);
    expect(await stored(bytes)).toBe(true);
  });

  it('a whole number of chunks has no smaller one', async () => {
    const { repository } = await start('plain');
    await repository.uploadBlob(knownBody(bytesOf(2 * CHUNK)), plain());
    expect(sent().map((line) => Number(line.split(' ')[2]))).toEqual([0, CHUNK, CHUNK, 0]);
  });

  it('a blob that is there is not sent, one that is known to be absent not asked for', async () => {
    const { repository } = await start('plain');
    const bytes = bytesOf(1000);
    await server.addBlob(REPOSITORY, bytes);
    const outcome = await repository.uploadBlob(knownBody(bytes), plain());
    expect(outcome).toMatchObject({ what: 'exists', bytesSent: 0, bytesResent: 0 });
    await repository.uploadBlob(knownBody(bytesOf(10)), { ...plain(), mayExist: false });
    expect(server.requests.filter(({ step }) => step === 'blob-head')).toHaveLength(1);
    expect(sent()).toEqual(['POST - 0', 'PUT - 10']);
  });

  it('a registry’s announcement beats the default', async () => {
    const { repository } = await start('serverless', { maxChunk: 128 * KIB }, 'auto');
    await repository.uploadBlob(knownBody(bytesOf(300 * KIB)), plain());
    expect(sent().map((line) => Number(line.split(' ')[2]))).toEqual([0, 128 * KIB, 128 * KIB, 44 * KIB, 0]);
    expect(client.limitFound).toBe(128 * KIB);
  });
});

describe('a registry’s minimum over the user’s chunk size', () => {
  it('is an error that names both, and leaves no session', async () => {
    const { repository } = await start('serverless', { minChunk: 2 * CHUNK });
    await expect(repository.uploadBlob(knownBody(bytesOf(CHUNK + 1)), plain())).rejects.toThrow(
      /asks for chunks of at least 524288 bytes.*chunk-size allows 262144 bytes/,
    );
    await expect.poll(() => server.openSessions()).toBe(0);
  });

  it('does not matter to a blob that goes in one PUT', async () => {
    const { repository } = await start('serverless', { minChunk: 2 * CHUNK });
    const bytes = bytesOf(CHUNK);
    await repository.uploadBlob(knownBody(bytes), plain());
    expect(await stored(bytes)).toBe(true);
  });
});

describe('mounts', () => {
  it('accepted: nothing is sent', async () => {
    const { repository } = await start('plain');
    const bytes = bytesOf(2 * CHUNK);
    await server.addBlob('team/base', bytes);
    const outcome = await repository.uploadBlob(knownBody(bytes), { ...plain(), mountFrom: 'team/base' });
    expect(outcome).toMatchObject({ what: 'mounted', bytesSent: 0 });
    expect(sent()).toEqual(['POST - 0']);
    expect(await stored(bytes)).toBe(true);
  });

  it('refused with 202: its session takes the blob', async () => {
    const { repository } = await start('plain');
    const bytes = bytesOf(10);
    const outcome = await repository.uploadBlob(knownBody(bytes), { ...plain(), mountFrom: 'team/other' });
    expect(outcome.what).toBe('uploaded');
    expect(sent()).toEqual(['POST - 0', 'PUT - 10']);
  });

  it('asked for by itself and refused: the session waits for the upload', async () => {
    const { repository } = await start('plain');
    const bytes = bytesOf(10);
    expect(await repository.mountBlob(digestOfBytes(bytes), 'team/other', plain().signal)).toBe('refused');
    await repository.uploadBlob(knownBody(bytes), plain());
    expect(sent()).toEqual(['POST - 0', 'PUT - 10']);
    expect(server.openSessions()).toBe(0);
  });

  it('asked for by itself and accepted', async () => {
    const { repository } = await start('plain');
    const bytes = bytesOf(10);
    await server.addBlob('team/base', bytes);
    expect(await repository.mountBlob(digestOfBytes(bytes), 'team/base', plain().signal)).toBe('mounted');
    expect(await stored(bytes)).toBe(true);
  });

  it('one whose session nobody needs is deleted at the end', async () => {
    const { repository } = await start('plain');
    await repository.mountBlob(digestOfBytes(bytesOf(10)), 'team/other', plain().signal);
    expect(server.openSessions()).toBe(1);
    await client.close();
    expect(server.openSessions()).toBe(0);
  });
});

describe('sessions that end early', () => {
  it('a cancelled upload leaves its session to close(), which deletes it', async () => {
    const { repository } = await start('plain');
    const body = new GrowingBody(bytesOf(4 * CHUNK));
    const controller = new AbortController();
    const upload = repository.uploadBlob(body, { signal: controller.signal, label: 'layer' });
    body.grow(2 * CHUNK + 1);
    await expect.poll(() => sent().length).toBe(3);
    controller.abort(new Error('the job was cancelled'));
    await expect(upload).rejects.toThrow('the job was cancelled');
    expect(server.openSessions()).toBe(1);
    await client.close();
    expect(server.openSessions()).toBe(0);
  });

  it('a blob whose making fails ends its session', async () => {
    const { repository } = await start('plain');
    const body = new GrowingBody(bytesOf(4 * CHUNK));
    const upload = repository.uploadBlob(body, plain());
    body.grow(2 * CHUNK + 1);
    await expect.poll(() => sent().length).toBe(3);
    body.fail(new Error('docker save exited with 1'));
    await expect(upload).rejects.toThrow('docker save exited with 1');
    await expect.poll(() => server.openSessions()).toBe(0);
  });
});

describe('a blob that is still being made', () => {
  it('is sent as its chunks are complete, and only its end makes one smaller', async () => {
    const { repository } = await start('plain');
    const bytes = bytesOf(3 * CHUNK + 7);
    const body = new GrowingBody(bytes);
    const confirmed: number[] = [];
    const upload = repository.uploadBlob(body, { ...plain(), onProgress: (count) => confirmed.push(count) });
    body.grow(CHUNK);
    // Blobs that are complete go by, each of them to its end.
    const another = (seed: string) =>
      client.repository('team/other').uploadBlob(knownBody(bytesOf(2 * CHUNK, seed)), plain());
    await another('before');
    expect(sent()).toEqual([]);
    body.grow(CHUNK + 1);
    await expect.poll(sent).toEqual(['POST - 0', `PATCH 0-${CHUNK - 1} ${CHUNK}`]);
    body.grow(2 * CHUNK + CHUNK / 2);
    await expect.poll(() => sent().length).toBe(3);
    await another('after');
    expect(sent()).toHaveLength(3);
    body.end();
    expect(await upload).toMatchObject({ what: 'uploaded', bytesSent: bytes.length, bytesResent: 0 });
    expect(sent().map((line) => Number(line.split(' ')[2]))).toEqual([0, CHUNK, CHUNK, CHUNK, 7, 0]);
    expect(confirmed).toEqual([CHUNK, 2 * CHUNK, 3 * CHUNK, 3 * CHUNK + 7, 3 * CHUNK + 7]);
    expect(await stored(bytes)).toBe(true);
  });

  it('that ends within a chunk is asked for, and goes in one PUT', async () => {
    const { repository } = await start('plain');
    const body = new GrowingBody(bytesOf(100));
    const upload = repository.uploadBlob(body, plain());
    body.end();
    await upload;
    expect(server.requests.map(({ step }) => step).filter((step) => step !== 'ping')).toEqual([
      'blob-head',
      'upload-post',
      'upload-put',
    ]);
  });

  it('that turns out to be there at its end is dropped before it is closed', async () => {
    const { repository } = await start('plain');
    const bytes = bytesOf(2 * CHUNK + 1);
    await server.addBlob(REPOSITORY, bytes);
    const body = new GrowingBody(bytes);
    const upload = repository.uploadBlob(body, plain());
    body.grow(2 * CHUNK + 1);
    await expect.poll(() => sent().length).toBe(3);
    body.end();
    expect(await upload).toMatchObject({ what: 'exists', bytesResent: 0 });
    await expect.poll(() => server.openSessions()).toBe(0);
    expect(server.requests.filter(({ step }) => step === 'blob-head')).toHaveLength(1);
  });

  it('that turns out to be there with much of it unsent is dropped at once', async () => {
    const { repository } = await start('plain');
    const bytes = bytesOf(8 * CHUNK);
    await server.addBlob(REPOSITORY, bytes);
    const body = new GrowingBody(bytes);
    const upload = repository.uploadBlob(body, plain());
    body.grow(CHUNK + 1);
    await expect.poll(() => sent().length).toBe(2);
    body.end();
    const outcome = await upload;
    expect(outcome).toMatchObject({ what: 'exists', bytesSent: CHUNK });
  });

  it('whose digest is known from the start is asked for at once', async () => {
    const { repository } = await start('plain');
    const bytes = bytesOf(3 * CHUNK);
    await server.addBlob(REPOSITORY, bytes);
    const body = new GrowingBody(bytes);
    body.identity = { digest: digestOfBytes(bytes), size: bytes.length };
    expect(await repository.uploadBlob(body, plain())).toMatchObject({ what: 'exists', bytesSent: 0 });
  });
});

/** Registries that take no chunks get what they take; the others are sent chunks. */
const chunkSizeFor = (profile: ProfileName): number | 'auto' => (profile === 'gar' ? 'auto' : CHUNK);

describe.each(PROFILE_NAMES)('every size arrives at %s', (profile) => {
  it.each([0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 5 * CHUNK + 12_345])(
    '%i bytes, known before',
    async (size) => {
      const { repository } = await start(profile, {}, chunkSizeFor(profile));
      const bytes = bytesOf(size, `${profile} ${size}`);
      const outcome = await repository.uploadBlob(knownBody(bytes), plain());
      expect(await stored(bytes)).toBe(true);
      expect(outcome).toMatchObject({ what: 'uploaded', bytesSent: size + outcome.bytesResent });
    },
  );

  it.each([1, CHUNK + 1, 3 * CHUNK + 12_345])('%i bytes, made while they are sent', async (size) => {
    const { repository } = await start(profile, {}, chunkSizeFor(profile));
    const bytes = bytesOf(size, `${profile} growing ${size}`);
    const body = new GrowingBody(bytes);
    const upload = repository.uploadBlob(body, plain());
    for (let at = 0; at < size; at += 100 * KIB) {
      body.grow(at);
      await new Promise((resolve) => setImmediate(resolve));
    }
    body.end();
    await upload;
    expect(await stored(bytes)).toBe(true);
  });
});

it('a chunk is never larger than what the profile’s host takes', async () => {
  const { repository } = await start('ghcr', { maxChunk: MIB }, 4 * MIB);
  await repository.uploadBlob(knownBody(bytesOf(9 * MIB)), plain());
  const chunks = server.requests.filter(({ step, status }) => step === 'upload-patch' && status === 202);
  expect(Math.max(...chunks.map(({ bytes }) => bytes))).toBe(MIB);
});
