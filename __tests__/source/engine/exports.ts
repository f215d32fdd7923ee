/** What tests of exports share. */
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect } from 'vitest';
import { fillStream } from '../../../src/blob/blocks.ts';
import type { Exporter } from '../../../src/source/archive/stream.ts';

/** Gives each test of a file a TMPDIR of its own, in which no export may leave anything. */
export function ownTemporaryFolder(): { readonly path: string } {
  const folder = { path: '' };
  let before: string | undefined;
  beforeEach(() => {
    folder.path = mkdtempSync(join(tmpdir(), 'chunked-push-export-'));
    before = process.env.TMPDIR;
    process.env.TMPDIR = folder.path;
  });
  afterEach(() => {
    if (before === undefined) delete process.env.TMPDIR;
    else process.env.TMPDIR = before;
    expect(readdirSync(folder.path).filter((name) => name.startsWith('chunked-push-save-'))).toEqual([]);
    rmSync(folder.path, { recursive: true, force: true });
  });
  return folder;
}

export const never = new AbortController().signal;

export const bytesOf = ({ input }: Exporter) => fillStream((into) => input.fill(into));

/** What a promise is rejected with; undefined when it is not. */
export const failureOf = (promise: Promise<unknown>): Promise<unknown> =>
  promise.then(
    () => undefined,
    (error: unknown) => error,
  );
