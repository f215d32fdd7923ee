/** distribution (registry:2, Debian's docker-registry, registry:3) and what is built on it. */
import { refusal } from '../answer.ts';
import { manyRefusals, type Quirk } from '../quirk.ts';
import type { Session } from '../session.ts';

const stateOf = (session: Session): string => Buffer.from(`${session.id}:${session.size}`).toString('base64url');

/** Locations are absolute and carry the session's state, which changes with each request. */
export const tellsAbsoluteStates: Quirk = {
  name: 'Location is absolute and carries _state',
  habits: {
    location: (session, exchange) =>
      `http://${exchange.host}/v2/${session.repository}/blobs/uploads/${session.id}?_state=${stateOf(session)}`,
  },
};

/** 2.8: every request to a session needs the newest `_state`; an offset that is not the session's is the session's end. */
export const endsAtOldStates: Quirk = {
  name: 'a request with an old _state ends the session (404), one without gets 400',
  before: async (exchange, { store }) => {
    if (!/^upload-(get|patch|put|delete)$/.test(exchange.route.step)) return undefined;
    const session = store.sessions.get(exchange.route.reference);
    const state = exchange.query.get('_state');
    if (session === undefined) return undefined;
    if (state === null) return refusal(400, 'BLOB_UPLOAD_INVALID', 'blob upload invalid');
    await session.settled(0);
    if (state === stateOf(session)) return undefined;
    await store.drop(session);
    return refusal(404, 'BLOB_UPLOAD_UNKNOWN', 'blob upload unknown to registry');
  },
};

/** 2.8: after a broken PATCH the session is gone. */
export const losesBrokenSessions: Quirk = {
  name: 'after a broken PATCH the session is unknown',
  habits: { brokenSession: 'gone' },
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

/** Missing blobs are a bad request, each error with the digest alone as its detail; there are no referrers. */
export const refusesManifestsWith400: Quirk = {
  name: 'a manifest with unknown blobs gets 400',
  habits: { unknownBlobs: (digests) => manyRefusals(400, digests), hasReferrers: false },
};

/** DELETE of a session needs a token with the delete action. */
export const wantsDeleteScope: Quirk = {
  name: 'cancelling an upload needs the delete scope',
  habits: { cancelNeeds: 'delete' },
};
