/** A blob out of an engine's store: its length is known from the start, its digest is seen to be right while it is sent. */
import { afterEach, beforeEach, expect, it } from 'vitest';
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

const steps = (of = 'team/app') =>
  server.requests.flatMap(({ step, repository }) => (repository === of && step.startsWith('upload-') ? [step] : []));
const CHUNKS = ['upload-post', 'upload-patch', 'upload-patch', 'upload-patch', 'upload-patch'];

/** A body whose `whole` is answered by hand. */
function unverified() {
  const verified = Promise.withResolvers<void>();
  verified.promise.catch(() => {});
  const known = knownBody(BYTES);
  const body: ReadableBlob = { ...known, completed: () => verified.promise.then(() => known.completed()) };
  return { body, verified };
}

it('its chunks go while it is verified, and the closing request comes after', async () => {
  const { body, verified } = unverified();
  const upload = client.registry.repository('team/app').uploadBlob(body, plain());
  await expect.poll(() => steps()).toEqual(CHUNKS);
  // A whole upload goes by, to the same registry on the same connections, and still nothing closes this one.
  await client.registry.repository('team/other').uploadBlob(knownBody(bytesOf(3 * MIB, 'other')), plain());
  expect(steps('team/other').at(-1)).toBe('upload-put');
  expect(steps()).toEqual(CHUNKS);
  verified.resolve();
  expect((await upload).what).toBe('uploaded');
  expect(steps()).toEqual([...CHUNKS, 'upload-put']);
});

it('bytes that turn out to be others are never closed, and their session is deleted', async () => {
  const { body, verified } = unverified();
  const upload = client.registry.repository('team/app').uploadBlob(body, plain());
  await expect.poll(() => steps()).toEqual(CHUNKS);
  verified.reject(new Error('the bytes have another digest'));
  await expect(upload).rejects.toThrow('another digest');
  await expect.poll(() => steps()).toEqual([...CHUNKS, 'upload-delete']);
  expect([server.blobs('team/app'), server.openSessions()]).toEqual([[], 0]);
});
