/** distribution (registry:2, Debian's docker-registry, registry:3) and what is built on it. */
import { type Answer, refusal } from '../answer.ts';
import { type Quirk, unknownBlobs } from '../quirk.ts';
import type { Session } from '../session.ts';

/** How long a request waits for one whose connection was just cut to be noticed (ms). */
const SETTLING_MS = 250;

const stateOf = (session: Session): string => Buffer.from(`${session.id}:${session.size}`).toString('base64url');

/** Locations are absolute and carry the session's state, which changes with each request. */
export const tellsAbsoluteStates: Quirk = {
  name: 'Location is absolute and carries _state',
  habits: {
    location: (session, exchange) =>
      `${exchange.origin}/v2/${session.repository}/blobs/uploads/${session.id}?_state=${stateOf(session)}`,
  },
};

const badState = (): Answer => refusal(404, 'BLOB_UPLOAD_INVALID', 'blob upload invalid');

/**
 * A `_state` whose offset is not the session's is not taken. 2.8 (seen on Debian's 2.8.2) answers 404, to GET and DELETE
 * too, so that after a PATCH that broke or whose answer was lost nobody can find the session again. 3.0 answers 416, and
 * GET needs no state.
 */
export const refusesOldStates = (steps: RegExp, old: () => Answer = badState): Quirk => ({
  name: 'a request with an old _state, or without, is refused though the session is there',
  before: async (exchange, { store }) => {
    const session = steps.test(exchange.route.step) ? store.sessions.get(exchange.route.reference) : undefined;
    if (session === undefined) return undefined;
    await session.settled(SETTLING_MS);
    const state = exchange.query.get('_state');
    if (state === null) return badState();
    return state === stateOf(session) ? undefined : old();
  },
});

/** 3.0: patches, closes and cancels with an old state. */
export const refusesOldStatesWith416 = refusesOldStates(/^upload-(patch|put|delete)$/, () =>
  refusal(416, 'RANGE_INVALID', 'invalid content range'),
);

/** 2.8: POST with digest only opens a session (seen on Debian's 2.8.2). */
export const ignoresPostDigest: Quirk = {
  name: 'POST with digest is only an opening',
  habits: { takesPostDigest: false },
};

/** 2.8: data is appended whatever Content-Range says. */
export const ignoresContentRange: Quirk = {
  name: 'Content-Range is ignored, data out of order is appended',
  habits: { checksContentRange: false },
};

/** 3.0: a chunk out of order gets 416 and no word on where to go on. */
export const keepsSilentOn416: Quirk = {
  name: '416 comes without Location and Range',
  habits: { explains416: false },
};

/** Missing blobs are a bad request, the detail of each error is the digest alone; there are no referrers. */
export const refusesManifestsWith400: Quirk = {
  name: 'a manifest with unknown blobs gets 400',
  habits: { unknownBlobs: (digests) => unknownBlobs(400, digests, (digest) => digest), hasReferrers: false },
};

/** DELETE of a session needs a token with the delete action. */
export const wantsDeleteScope: Quirk = {
  name: 'cancelling an upload needs the delete scope',
  habits: { cancelNeeds: 'delete' },
};
