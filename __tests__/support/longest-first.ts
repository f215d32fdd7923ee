/** The order of the test files: those that take longest begin first, so that none of them is left alone at the end. */
import { existsSync } from 'node:fs';
import { BaseSequencer, type TestSpecification } from 'vitest/node';

/** The files that take over ten seconds on two cores, the longest first; what is not named comes after them. */
const LONGEST = [
  'e2e/round-trips',
  'faults/matrix-hosted',
  'faults/matrix-servers',
  'faults/outages-real',
  'faults/secrets',
  'source/store/engines',
  'e2e/store',
  'e2e/engines',
  'source/engine/engines',
  'e2e/warm',
  'e2e/cache',
  'e2e/matrix',
  'cache/service-failures',
  'e2e/store-access',
  'cache/layer-cache',
  'e2e/terminal',
  'e2e/podman',
  'support/real/suite',
  'e2e/secrets',
  'e2e/fallback',
  'e2e/store-drivers',
  'e2e/cancel',
  'blob/memory',
  'e2e/zstd',
  'e2e/big-push',
  'faults/property',
  'e2e/files',
  'faults/token',
  'e2e/destinations',
  'e2e/platforms',
  'source/archive/hostile',
  'registry/upload/resume',
  'registry/upload/random-cuts',
  'faults/cuts',
  'push/push',
  'blob/streaming',
  'blob/interoperability',
  'e2e/archives',
  'e2e/store-left-out',
  'e2e/wrong-inputs',
  'registry/http/early-answer',
].map((name) => `/__tests__/${name}.test.ts`);

for (const name of LONGEST)
  if (!existsSync(new URL(`../..${name}`, import.meta.url)))
    throw new Error(`${name} is not there: longest-first.ts names it`);

const rankOf = ({ moduleId }: TestSpecification): number => {
  const rank = LONGEST.findIndex((name) => moduleId.endsWith(name));
  return rank < 0 ? LONGEST.length : rank;
};

export class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    return (await super.sort(files)).sort((a, b) => rankOf(a) - rankOf(b));
  }
}
