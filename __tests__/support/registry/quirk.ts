/** How registries differ: habits are values that the handlers ask, hooks look at requests and change answers. */
import { type Answer, answer, refusal } from './answer.ts';
import type { Exchange } from './exchange.ts';
import type { AfterBreak, Session } from './session.ts';
import type { Store } from './store.ts';

/** What a quirk may look at. */
export interface Site {
  readonly store: Store;
  /** Blobs that HEAD and GET find in another registry. */
  readonly fallback: Map<string, Buffer>;
}

/** Ways of doing that every registry has, one or the other. The defaults are what distribution-spec v1.1 asks for. */
export interface Habits {
  /** The Location of a session, told after each request. */
  location(session: Session, exchange: Exchange): string;
  /** The Range for so many bytes at this step; undefined leaves the header out. */
  range(size: number, exchange: Exchange): string | undefined;
  /** Whether Content-Range is compared with the session's size. */
  readonly checksContentRange: boolean;
  /** Whether the Location of a session is told with a 416, and its Range. */
  readonly explains416: boolean;
  /** The status of a PATCH that was taken. */
  readonly patchStatus: 201 | 202;
  /** Which bytes of a broken body count. */
  readonly afterBreak: AfterBreak;
  /** What becomes of the session whose body broke: goes on, is gone (404), or fails for ever (500). */
  readonly brokenSession: 'open' | 'gone' | 'poisoned';
  /** Whether the closing PUT takes a body although there was a PATCH before. */
  readonly takesLastChunkInPut: boolean;
  /** Whether POST with `digest` takes the blob at once. */
  readonly takesPostDigest: boolean;
  /** The answer to a request for a session that is not there. */
  unknownSession(exchange: Exchange): Answer;
  /** The answer to a close whose digest is not that of the bytes. May end the session. */
  wrongDigest(session: Session, store: Store): Promise<Answer>;
  /** The answer to a manifest whose blobs are not there. */
  unknownBlobs(digests: readonly string[]): Answer;
  /** Whether a manifest is refused that is put under a digest which is not its own. */
  readonly checksManifestDigest: boolean;
  /** Whether manifests must say their own mediaType. */
  readonly wantsMediaType: boolean;
  /** Whether the referrers API is there. */
  readonly hasReferrers: boolean;
  /** What a token must allow to DELETE a session. */
  readonly cancelNeeds: 'push' | 'delete';
  /** The WWW-Authenticate of a registry with passwords. */
  basicChallenge(exchange: Exchange): string;
  /** Whether `basic` is as good as `Basic`. RFC 9110 section 11.1 says it is. */
  readonly foldsSchemeCase: boolean;
}

/** One named peculiarity. Hooks run in the order of the profile's list; the first answer of `before`, `chunk`, `close` ends it. */
export interface Quirk {
  readonly name: string;
  readonly habits?: Partial<Habits>;
  /** Sees a request before its body is read and before it is known whether the client may do that. */
  before?(exchange: Exchange, site: Site): Answer | undefined | Promise<Answer | undefined>;
  /** Sees a PATCH (or a PUT with a body) of a session that is there, before the body is read. */
  chunk?(exchange: Exchange, session: Session, site: Site): Answer | undefined | Promise<Answer | undefined>;
  /** Sees a close after its body was read, before the digest is compared. */
  close?(exchange: Exchange, session: Session, site: Site): Answer | undefined | Promise<Answer | undefined>;
  /** Changes what the handler answered. */
  after?(given: Answer, exchange: Exchange, site: Site): Answer | Promise<Answer>;
}

/** `0-N`, N the offset of the last byte; zero bytes read `0-0`, as distribution has it and most follow. */
export const inclusiveRange = (size: number): string => `0-${Math.max(0, size - 1)}`;

const specification: Habits = {
  location: (session) => `/v2/${session.repository}/blobs/uploads/${session.id}`,
  range: inclusiveRange,
  checksContentRange: true,
  explains416: true,
  patchStatus: 202,
  afterBreak: 'kept',
  brokenSession: 'open',
  takesLastChunkInPut: true,
  takesPostDigest: true,
  unknownSession: () => refusal(404, 'BLOB_UPLOAD_UNKNOWN', 'blob upload unknown to registry'),
  wrongDigest: async (session, store) => {
    await store.drop(session);
    return refusal(400, 'DIGEST_INVALID', 'provided digest did not match uploaded content');
  },
  unknownBlobs: (digests) => unknownBlobs(404, digests, (digest) => ({ digest })),
  checksManifestDigest: true,
  wantsMediaType: false,
  hasReferrers: true,
  cancelNeeds: 'push',
  basicChallenge: () => 'Basic realm="registry", charset="UTF-8"',
  foldsSchemeCase: true,
};

/** One MANIFEST_BLOB_UNKNOWN a digest, in one answer. */
export function unknownBlobs(status: number, digests: readonly string[], detail: (digest: string) => unknown): Answer {
  const errors = digests.map((digest) => ({
    code: 'MANIFEST_BLOB_UNKNOWN',
    message: 'blob unknown to registry',
    detail: detail(digest),
  }));
  return { ...answer(status, { 'Content-Type': 'application/json' }), body: JSON.stringify({ errors }) };
}

/** The habits of a list of quirks: those of the specification, each quirk's own put over them in turn. */
export const habitsOf = (quirks: readonly Quirk[]): Habits =>
  Object.assign({}, specification, ...quirks.map((quirk) => quirk.habits ?? {}));
