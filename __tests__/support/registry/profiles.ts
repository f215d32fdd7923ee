/** The registries that tests name: each a list of quirks, with the evidence in the quirk's own words. */
import type { AuthOptions } from './auth.ts';
import type { Quirk } from './quirk.ts';
import * as distribution from './quirks/distribution.ts';
import { limitsBodies, limitsPatches, refusesEvery, resetsUnsizedBodies } from './quirks/limits.ts';
import * as serverless from './quirks/serverless.ts';
import * as sessions from './quirks/sessions.ts';

const MIB = 1024 * 1024;
const GIB = 1024 * MIB;

/** What the profiles with token endpoints know: the only account. */
export const TEST_CREDENTIALS = { username: 'pusher', password: 'correct horse battery' } as const;

/** Numbers of a profile that tests make smaller, so that they need not send so much. Lengths are bytes. */
export interface ProfileOptions {
  /** Peculiarities on top of those of the profile. */
  readonly quirks?: readonly Quirk[];
  /** Bodies over this are refused as nginx does, in any profile; 5 MiB in `limited`. */
  readonly limit?: number;
  /** serverless: OCI-Chunk-Min-Length (5 MiB). ecr: the least part (5 MiB). */
  readonly minChunk?: number;
  /** serverless: OCI-Chunk-Max-Length (100 MB). ecr: the largest part (20 MiB). ghcr: the largest PATCH (4 MiB). */
  readonly maxChunk?: number;
  /** serverless: the largest blob that can be closed (5 GiB). */
  readonly maxBlob?: number;
  /** hub: every so-many-th request gets 429; 7. */
  readonly refuseEvery?: number;
  /** hub: its Retry-After, as it is sent; `1`. */
  readonly retryAfter?: () => string;
  /** ecr: the repositories that were made; every one when left out. */
  readonly madeRepositories?: readonly string[];
  /** ghcr: which repeated PUT loses the blob; 5. */
  readonly loseEvery?: number;
}

interface Profile {
  readonly quirks: readonly Quirk[];
  readonly auth?: AuthOptions;
}

const bearer = (lifetimeSeconds: number): AuthOptions => ({ bearer: { ...TEST_CREDENTIALS, lifetimeSeconds } });

const { tellsAbsoluteStates, refusesOldStates, ignoresContentRange, ignoresPostDigest } = distribution;
const { keepsSilentOn416, refusesManifestsWith400, wantsDeleteScope } = distribution;

const distribution3 = [
  tellsAbsoluteStates,
  distribution.refusesOldStatesWith416,
  keepsSilentOn416,
  refusesManifestsWith400,
  wantsDeleteScope,
];

const PROFILES = {
  plain: () => ({ quirks: [] }),
  limited: (options) => ({ quirks: [limitsBodies(options.limit ?? 5 * MIB), resetsUnsizedBodies] }),
  serverless: ({ minChunk = 5 * MIB, maxChunk = 100_000_000, maxBlob = 5 * GIB }) => ({
    quirks: [
      serverless.announcesChunks(minChunk, maxChunk),
      serverless.hashesState,
      serverless.wantsEqualChunks(minChunk),
      serverless.holdsUnsizedBodies,
      serverless.undoesBrokenChunks,
      serverless.closesBadly(maxBlob),
      serverless.checksManifestsItsWay,
      serverless.wantsExactlyBasic,
      serverless.showsMountsAsLinks,
      serverless.looksInFallback,
    ],
  }),
  distribution2: () => ({
    quirks: [
      tellsAbsoluteStates,
      refusesOldStates(/^upload-(get|patch|put|delete)$/),
      ignoresContentRange,
      ignoresPostDigest,
      refusesManifestsWith400,
      wantsDeleteScope,
    ],
  }),
  distribution3: () => ({ quirks: distribution3 }),
  zot: () => ({ quirks: [sessions.losesBrokenSessions, sessions.countsZeroAsMinusOne] }),
  gitea: () => ({ quirks: [sessions.poisonsBrokenSessions, sessions.wantsRangeAfterFirst, keepsSilentOn416] }),
  quay: () => ({ quirks: [sessions.tellsRangesOfQuay] }),
  ecr: ({ minChunk = 5 * MIB, maxChunk = 20 * MIB, madeRepositories }) => ({
    quirks: [
      ...(madeRepositories === undefined ? [] : [sessions.hangsUpOnUnknownRepositories(madeRepositories)]),
      sessions.tellsStickyRanges,
      sessions.limitsParts(minChunk, maxChunk),
      sessions.wantsLastChunkInPut,
    ],
  }),
  ghcr: ({ maxChunk = 4 * MIB, loseEvery = 5 }) => ({
    quirks: [limitsPatches(maxChunk), sessions.losesReplayedBlobs(loseEvery)],
  }),
  gar: () => ({ quirks: [sessions.refusesPatches] }),
  acr: () => ({ quirks: [sessions.wantsLengthsAndRawRanges] }),
  hub: ({ refuseEvery = 7, retryAfter = () => '1' }) => ({
    quirks: [refusesEvery(refuseEvery, retryAfter), ...distribution3],
    auth: bearer(300),
  }),
  gitlab: () => ({ quirks: distribution3, auth: bearer(5) }),
  replicas: () => ({ quirks: [sessions.livesOnOneReplica()] }),
  equalparts: () => ({ quirks: [sessions.wantsEqualParts] }),
} satisfies Record<string, (options: ProfileOptions) => Profile>;

export type ProfileName = keyof typeof PROFILES;

export const PROFILE_NAMES = Object.keys(PROFILES) as ProfileName[];

/** The quirks of a profile, a body limit in front when one is given, those of the test behind. Each call makes quirks that count anew. */
export function profile(name: ProfileName, options: ProfileOptions): Profile {
  const chosen: Profile = PROFILES[name](options);
  const limited = options.limit !== undefined && name !== 'limited';
  const front = limited ? [limitsBodies(options.limit ?? 0), resetsUnsizedBodies] : [];
  return { ...chosen, quirks: [...front, ...chosen.quirks, ...(options.quirks ?? [])] };
}
