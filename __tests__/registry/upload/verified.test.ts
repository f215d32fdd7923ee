/** A blob out of an engine's store: its length is known from the start, its digest is seen to be right while it is sent. */
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { ReadableBlob } from '../../../src/blob/blob.ts';
import { type Registry as Server, startRegistry } from '../../support/registry/server.ts';
import { bytesOf, type Client, connect, knownBody, MIB, plain } from './client.ts';

const BYTES = bytesOf(3 * MIB + 5, 'stored');
let server: Server;
let client: Client;

beforeEach(async () => {
  server = await startRegistry();
  client = connect(server.host);
});
afterEach(async () => {
  await client.registry.close();
  await server.close();
});

const steps = () => server.requests.map(({ step }) => step).filter((step) => step.startsWith('upload-'));
const CHUNKS = ['upload-post', 'upload-patch', 'upload-patch', 'upload-patch', 'upload-patch'];

/** A body whose `whole` is answered by hand. */
function unverified() {
  const verified = Promise.withResolvers<void>();
  verified.promise.catch(() => {});
  const known = knownBody(BYTES);
  const body: ReadableBlob = { ...known, completed: () => verified.promise.then(() => known.completed()) };
  return { body, verified };
}

async function until(reached: () => boolean): Promise<void> {
  while (!reached()) await new Promise((resolve) => setTimeout(resolve, 5));
}

test('its chunks go while it is verified, and the closing request comes after', async () => {
  const { body, verified } = unverified();
  const upload = client.registry.repository('team/app').uploadBlob(body, plain());
  await until(() => steps().length === CHUNKS.length);
  await new Promise((resolve) => setTimeout(resolve, 50));
  expect(steps()).toEqual(CHUNKS);
  verified.resolve();
  expect((await upload).what).toBe('uploaded');
  expect(steps()).toEqual([...CHUNKS, 'upload-put']);
});

test('bytes that turn out to be others are never closed, and their session is deleted', async () => {
  const { body, verified } = unverified();
  const upload = client.registry.repository('team/app').uploadBlob(body, plain());
  await until(() => steps().length === CHUNKS.length);
  verified.reject(new Error('the bytes have another digest'));
  await expect(upload).rejects.toThrow('another digest');
  await until(() => steps().length > CHUNKS.length);
  expect(steps()).toEqual([...CHUNKS, 'upload-delete']);
  expect([server.blobs('team/app'), server.openSessions()]).toEqual([[], 0]);
});
