/** The order of the test files: those that take longest begin first, so that none of them is left alone at the end. */
import { BaseSequencer, type TestSpecification } from 'vitest/node';

/** The files that take over ten seconds on two cores, the longest first; what is not named comes after them. */
const LONGEST = [
  'image/store/engines',
  'e2e/store',
  'e2e/engines',
  'e2e/store-access',
  'faults/matrix-hosted',
  'faults/matrix-servers',
  'e2e/big-push',
  'cache/failures',
  'image/engine/engines',
  'e2e/warm',
  'e2e/cache',
  'e2e/destinations',
  'faults/property',
  'e2e/terminal',
  'e2e/podman',
  'e2e/fallback',
  'layer/memory',
  'layer/make',
  'e2e/archives',
  'e2e/store-left-out',
  'e2e/wrong-inputs',
  'e2e/cancel',
  'registry/upload/random-cuts',
  'layer/readers',
  'cache/layer-cache',
  'registry/early-answer',
].map((name) => `/__tests__/${name}.test.ts`);

const rankOf = ({ moduleId }: TestSpecification): number => {
  const rank = LONGEST.findIndex((name) => moduleId.endsWith(name));
  return rank < 0 ? LONGEST.length : rank;
};

export class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    return (await super.sort(files)).sort((a, b) => rankOf(a) - rankOf(b));
  }
}
