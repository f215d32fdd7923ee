/** How test files ask for real parts. */
import { describe, inject } from 'vitest';
import type { DockerAddress, DockerOptions } from './docker.ts';
import { lackingCommands, leftOut, type PartName, TEST_PARTS } from './parts.ts';

/**
 * A `describe` for tests that need real parts. Where a part is missing they run and fail, with the words that say how to get it;
 * they are skipped only when CHUNKED_PUSH_TEST_WITHOUT names the part.
 */
export const describeWith = (parts: readonly PartName[], name: string, tests: () => void): void => {
  const without = leftOut();
  describe.skipIf(parts.some((part) => without.has(part)))(name, tests);
};

/** An engine that the whole run shares; it is never stopped by a test. Throws an Error with its log when it does not start. */
export const sharedDocker = async (options: DockerOptions): Promise<DockerAddress> => {
  const response = await fetch(inject('realPartsBroker'), { method: 'POST', body: JSON.stringify(options) });
  const answer = await response.text();
  if (!response.ok) throw new Error(answer);
  return JSON.parse(answer) as DockerAddress;
};

/** The parts of `npm test` that are at hand here, for matrices that run with whatever there is. */
export const partsAtHand = (): readonly PartName[] => {
  const without = leftOut();
  return TEST_PARTS.filter((part) => !without.has(part) && lackingCommands(part).length === 0);
};
