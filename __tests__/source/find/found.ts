/** What tests of finding images share: a folder of a test file, and images that are found in it. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect } from 'vitest';
import { ImageError } from '../../../src/common/error.ts';
import type { Digest } from '../../../src/oci/types.ts';
import { walk } from '../../../src/oci/walk.ts';
import { type FindOptions, findImage } from '../../../src/source/find/find.ts';
import type { FoundImage, StoreSource } from '../../../src/source/source.ts';
import { hashOf } from '../fixtures.ts';

export let work: string;
beforeAll(() => {
  work = mkdtempSync(join(tmpdir(), 'chunked-push-find-'));
});
afterAll(() => rmSync(work, { recursive: true, force: true }));

export const never = new AbortController().signal;
export const opening = { signal: never, debug: () => {}, notice: () => {} };
export const find = (image: string, more: Partial<FindOptions> = {}) =>
  findImage({ image, engine: 'auto', signal: never, tempDir: work, ...more });
export const path = (name: string) => join(work, name);
export const write = (name: string, bytes: Buffer | string) => {
  writeFileSync(path(name), bytes);
  return path(name);
};

export async function failure(work: Promise<unknown>): Promise<ImageError> {
  const error = await work.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(ImageError);
  return error as ImageError;
}

/** Opens a file source and checks every blob of it that is there against its digest. Gives the digests of those. */
export async function openWhole(found: FoundImage): Promise<{ store: StoreSource; blobs: Digest[] }> {
  const store = await found.open(opening);
  if (store.kind !== 'store') throw new Error('a file is a store');
  const wanted =
    store.tree.kind === 'composed' ? store.tree.diffIds : walk(store.tree).blobs.map(({ digest }) => digest);
  const blobs: Digest[] = [];
  for (const digest of new Set(wanted)) {
    const blob = await store.open(digest);
    if (!blob) continue;
    expect(await hashOf(blob.read())).toEqual({ hash: digest, size: blob.size });
    blobs.push(digest);
    const part = await hashOf(blob.read(1, 3));
    expect(part.size).toBe(Math.max(0, Math.min(3, blob.size ?? 0) - 1));
  }
  return { store, blobs };
}
