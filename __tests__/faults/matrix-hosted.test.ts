/** The fault matrix on embedded profiles: hosted registries and their peculiarities. */
import { describe, it } from 'vitest';
import { EMBEDDED, HOSTED } from './targets.ts';
import { expectTwoEnds } from './two-ends.ts';

const targets = EMBEDDED.filter(({ name }) => HOSTED.has(name));

describe.concurrent.each(targets)('$name', (target) => {
  it('every step under every fault ends in one of two ways', { timeout: 300_000 }, async () => {
    await expectTwoEnds(target);
  });
});
