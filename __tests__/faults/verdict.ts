/** Whether a cell ended as it must. */
import { RegistryError, UploadError } from '../../src/registry/http/error.ts';
import { BlobUnknownError } from '../../src/registry/manifests.ts';
import { nameOf, type Result } from './cell.ts';
import { boundOf, expectedEnd } from './expected.ts';
import { CHUNK } from './steps.ts';

/** What the client may throw at all. */
const isNamed = (error: unknown): error is Error =>
  error instanceof RegistryError || error instanceof UploadError || error instanceof BlobUnknownError;

function wrongError({ cell, ownRefusals }: Result, error: unknown): string | undefined {
  if (!isNamed(error)) return `an unnamed error: ${error}`;
  const { step, kind } = cell;
  // A refusal of its own may be what used up the tries.
  if (ownRefusals > 0 && /429 /.test(error.message)) return undefined;
  if (!kind.says.test(error.message)) return `the error does not name the cause: ${error.message}`;
  return step.says.test(error.message) ? undefined : `the error does not name the step: ${error.message}`;
}

/** Undefined, or what is wrong with a result. */
export function wrong(result: Result): string | undefined {
  const { cell, end, hits, ownRefusals } = result;
  if (end.is === 'broken') return end.how;
  if (hits === 0) return 'the fault never happened';
  const expected = expectedEnd(cell);
  if (end.is !== expected) return `${end.is}, expected ${expected}${end.is === 'failed' ? `: ${end.error}` : ''}`;
  if (end.is === 'failed') return wrongError(result, end.error);
  const { words, bytes } = boundOf(cell);
  const most = bytes + ownRefusals * CHUNK;
  return end.resent <= most ? undefined : `${end.resent} bytes were sent again, ${words} (${most}) at most`;
}

/** The complaints about some results, each with its cell. */
export const complaints = (results: readonly Result[]): string[] =>
  results.flatMap((result) => {
    const what = wrong(result);
    return what === undefined ? [] : [`${nameOf(result.cell)}: ${what}`];
  });
