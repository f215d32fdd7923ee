/** Manifests and indexes of a repository. distribution-spec, sections "Pulling manifests" and "Pushing Manifests". */
import { schema1Error } from '../oci/documents.ts';
import { type Descriptor, type Digest, digestOf, isDigest, isSchema1Type, MediaType } from '../oci/types.ts';
import { otherBytes } from './blobs.ts';
import {
  answerOrTrouble,
  ask,
  fetchAndRead,
  noRegistry,
  noteRegistry,
  type Place,
  transientError,
} from './host/context.ts';
import { Patience } from './host/patience.ts';
import { errorOf, isPage, RegistryError } from './http/error.ts';
import { type RegistryCode, registryCodes } from './http/error-body.ts';
import type { RegistryResponse } from './http/response.ts';
import { sameOrigin } from './http/url-policy.ts';

/** What the specification says that registries should take; more than any real manifest. */
const LARGEST_MANIFEST = 4 * 2 ** 20;

/** All forms that we read. Without Accept, distribution answers with schema 1. */
const ACCEPT = [MediaType.ociManifest, MediaType.ociIndex, MediaType.dockerManifest, MediaType.dockerList].join(', ');

/** Codes that name content which the manifest needs and the repository lacks. MANIFEST_UNKNOWN: a child of an index. */
const UNKNOWN_CODES: ReadonlySet<string> = new Set(['MANIFEST_BLOB_UNKNOWN', 'BLOB_UNKNOWN', 'MANIFEST_UNKNOWN']);

/** A manifest and what the registry calls it. */
export interface FetchedManifest {
  readonly descriptor: Descriptor;
  readonly bytes: Buffer;
}

/** The registry says that it lacks blobs (or children) of a manifest. */
export class BlobUnknownError extends Error {
  override readonly name = 'BlobUnknownError';
  /** Those that it named; empty when it named none. */
  readonly digests: readonly Digest[];

  constructor(digests: readonly Digest[], cause: RegistryError) {
    super(cause.message, { cause });
    this.digests = digests;
  }
}

/** The descriptor of a manifest; undefined for 404. Throws RegistryError. */
export async function headManifest(
  place: Place,
  reference: string,
  signal: AbortSignal,
): Promise<Descriptor | undefined> {
  const step = 'looking for a manifest';
  const response = await ask(place, 'HEAD', `manifests/${reference}`, { signal, step, headers: { accept: ACCEPT } });
  if (response.status === 200) {
    await response.discard();
    return described(response) ?? (await fetchManifest(place, reference, signal))?.descriptor;
  }
  if (response.status === 404) return undefined;
  // No body tells why. 405: no HEAD here.
  if (response.status === 405) return (await fetchManifest(place, reference, signal))?.descriptor;
  throw await errorOf(response, { method: 'HEAD', step, remedy: response.remedy });
}

/** What the headers say; undefined when they leave something out. */
function described(response: RegistryResponse): Descriptor | undefined {
  const digest = response.headers['docker-content-digest'];
  const mediaType = response.headers['content-type'];
  const size = Number(response.headers['content-length'] ?? Number.NaN);
  return isDigest(digest) && mediaType !== undefined && Number.isSafeInteger(size)
    ? { mediaType, digest, size }
    : undefined;
}

/**
 * A manifest whose bytes hash to the digest that was asked for, or else to the one that the registry names; undefined
 * for 404. Throws RegistryError, and ImageError for a manifest of schema 1.
 */
export async function fetchManifest(
  place: Place,
  reference: string,
  signal: AbortSignal,
): Promise<FetchedManifest | undefined> {
  const step = 'reading a manifest';
  const options = { signal, step, headers: { accept: ACCEPT } };
  return fetchAndRead(place, `manifests/${reference}`, options, async (response) => {
    if (response.status === 404) {
      await response.discard();
      return undefined;
    }
    if (response.status !== 200) throw await errorOf(response, { method: 'GET', step, remedy: response.remedy });
    if (isPage(response)) {
      await response.discard();
      throw noRegistry(response, place, step, 'came with a web page in place of a manifest');
    }
    const bytes = await response.bytes(LARGEST_MANIFEST);
    const digest = digestOf(bytes);
    const mediaType = mediaTypeOf(response, bytes);
    // Its digest is that of its payload, without the signatures that these bytes have in them.
    if (isSchema1Type(mediaType)) throw schema1Error(`the manifest ${place.name}${separated(reference)}`, 1);
    const named = isDigest(reference) ? reference : response.headers['docker-content-digest'];
    if (isDigest(named) && named !== digest) throw otherBytes(response, named, bytes, step);
    if (isDigest(named)) noteRegistry(place.context);
    return { bytes, descriptor: { mediaType, digest, size: bytes.length } };
  });
}

const separated = (reference: string): string => (isDigest(reference) ? `@${reference}` : `:${reference}`);

/** The Content-Type without parameters, or what the manifest says of itself. */
function mediaTypeOf(response: RegistryResponse, bytes: Buffer): string {
  const header = response.headers['content-type']?.split(';', 1)[0]?.trim();
  if (header !== undefined && header !== '' && !/^(text\/plain|application\/(json|octet-stream))$/i.test(header))
    return header;
  try {
    const { mediaType } = JSON.parse(bytes.toString('utf8')) as { mediaType?: unknown };
    return typeof mediaType === 'string' ? mediaType : MediaType.ociManifest;
  } catch {
    return header ?? MediaType.ociManifest;
  }
}

interface ManifestPut {
  readonly bytes: Buffer;
  readonly mediaType: string;
  /** A tag, or the digest of `bytes`. */
  readonly reference: string;
  readonly signal: AbortSignal;
}

/** A manifest that the registry has confirmed. */
export interface ConfirmedManifest {
  readonly digest: Digest;
  /**
   * The subject under which the registry lists it (OCI-Subject); undefined when it did not say so: it has no referrers
   * API, or the manifest has no subject. distribution-spec, "Pushing Manifests with Subject".
   */
  readonly subject: string | undefined;
}

/**
 * Puts a manifest until the registry confirms it; may be repeated, so no answer needs to be understood before the next
 * try. Resolves once the registry has named the same digest, or served these bytes. Throws BlobUnknownError,
 * RegistryError, UploadError.
 */
export async function putManifest(place: Place, put: ManifestPut): Promise<ConfirmedManifest> {
  const digest = digestOf(put.bytes);
  // serverless-registry stores a manifest under any digest that it is given.
  if (isDigest(put.reference) && put.reference !== digest)
    throw new Error(`a manifest with the digest ${digest} cannot be put as ${put.reference}`);
  const patience = new Patience(place.context, { label: `manifest ${put.reference}`, signal: put.signal });
  for (let tries = 1; ; tries += 1) {
    const outcome = await attempt(place, put);
    if (!(outcome instanceof Error)) {
      await confirm(place, put, digest, outcome);
      return { digest, subject: outcome.headers['oci-subject'] };
    }
    // A lost answer, then "this tag is immutable": it was our own.
    if (tries > 1 && !isTemporary(outcome) && (await isThere(place, put, digest)))
      return { digest, subject: undefined };
    if (!isTemporary(outcome)) throw outcome;
    await patience.failed(outcome);
  }
}

const isTemporary = (error: Error): error is RegistryError =>
  error instanceof RegistryError && (error.temporary || error.kind === 'dns');

async function attempt(place: Place, put: ManifestPut): Promise<RegistryResponse | RegistryError | BlobUnknownError> {
  const step = 'putting a manifest';
  const answer = await answerOrTrouble(place.context, () =>
    place.context.transport.send({
      method: 'PUT',
      url: place.url(`manifests/${put.reference}`),
      headers: { 'content-type': put.mediaType },
      body: put.bytes,
      scopes: place.scopes,
      signal: put.signal,
      step,
    }),
  );
  if (answer instanceof RegistryError || (answer.status >= 200 && answer.status < 300)) return answer;
  // distribution answers 500 where beside the blobs it refuses the URLs of foreign layers, each time anew.
  const denied = answer.status === 500 ? await refusal(answer, step) : undefined;
  if (denied instanceof BlobUnknownError && denied.digests.length > 0) return denied;
  return (await transientError(answer, step)) ?? refusal(answer, step);
}

/** Reads the complete answer: an image of a hundred layers may lack all of them. */
async function refusal(response: RegistryResponse, step: string): Promise<RegistryError | BlobUnknownError> {
  const body = await response.excerpt(LONGEST_REFUSAL);
  const excerpt = async (limit: number): Promise<string> => body.slice(0, limit);
  const { status, headers, url } = response;
  const error = await errorOf({ status, headers, url, excerpt }, { method: 'PUT', step, remedy: response.remedy });
  const unknown = registryCodes(body).filter(({ code }) => UNKNOWN_CODES.has(code.toUpperCase()));
  return unknown.length > 0 ? new BlobUnknownError(digestsIn(unknown), error) : error;
}

/** An error with its detail takes about 300 bytes, an image has 127 layers at most (overlay2). */
const LONGEST_REFUSAL = 64 * 1024;

/** distribution puts the digest into `detail`, serverless-registry into `message`. */
function digestsIn(codes: readonly RegistryCode[]): Digest[] {
  const text = codes.map(({ message, detail }) => `${message} ${JSON.stringify(detail ?? '')}`).join('\n');
  const found = text.match(/sha256:[0-9a-f]{64}(?![0-9a-f])/g) ?? [];
  return [...new Set(found)].filter(isDigest);
}

/** Throws RegistryError unless the registry confirms the digest: by its header, or by serving the manifest. */
async function confirm(place: Place, put: ManifestPut, digest: Digest, response: RegistryResponse): Promise<void> {
  await response.discard();
  const said = response.headers['docker-content-digest'];
  if (said === digest || (await isThere(place, put, digest))) return;
  const reason = `the registry ${said === undefined ? 'does not serve the manifest that was put' : `calls it ${said}`}, its digest is ${digest}`;
  throw new RegistryError({
    kind: 'protocol',
    method: 'PUT',
    url: response.url,
    reason,
    step: 'putting a manifest',
    temporary: false,
  });
}

/** Whether the reference leads to these very bytes. */
async function isThere(place: Place, put: ManifestPut, digest: Digest): Promise<boolean> {
  const found = await fetchManifest(place, put.reference, put.signal);
  return found?.descriptor.digest === digest && found.bytes.equals(put.bytes);
}

/**
 * Deletes a manifest by tag or digest. distribution-spec, "Content Management": a registry that implements it answers
 * 202; one that does not, 400 or 405 (distribution deletes no tags, and by digest only with `delete: enabled`).
 */
export async function deleteManifest(
  place: Place,
  reference: string,
  signal: AbortSignal,
): Promise<'deleted' | 'absent' | 'unsupported'> {
  const step = 'deleting a manifest';
  const response = await ask(place, 'DELETE', `manifests/${reference}`, { signal, step });
  const { status } = response;
  if (status === 404 || (status >= 200 && status < 300)) {
    await response.discard();
    return status === 404 ? 'absent' : 'deleted';
  }
  const error = await errorOf(response, { method: 'DELETE', step, remedy: response.remedy });
  if (status === 405 || status === 501 || error.has('UNSUPPORTED') || (status === 400 && !isDigest(reference)))
    return 'unsupported';
  throw error;
}

/** A registry of a hundred thousand tags lists them in pages of 100 to 1000; more pages than this are a loop. */
const MOST_PAGES = 2_000;

/** distribution's default page; Docker Hub and ECR have at most this number in one. */
const TAGS_A_PAGE = 1_000;

/** All tags of a repository. distribution-spec, "Listing Tags": the next page is named by `Link: <url>; rel="next"`. */
export async function listTags(place: Place, signal: AbortSignal): Promise<string[]> {
  const step = 'listing tags';
  const tags: string[] = [];
  let page: URL | undefined = place.url(`tags/list?n=${TAGS_A_PAGE}`);
  for (let pages = 0; page !== undefined && pages < MOST_PAGES; pages += 1) {
    const next: { tags: string[]; page: URL | undefined } = await fetchAndRead(
      place,
      page,
      { signal, step },
      async (response) => {
        if (response.status === 404) {
          await response.discard();
          return { tags: [], page: undefined };
        }
        if (response.status !== 200) throw await errorOf(response, { method: 'GET', step, remedy: response.remedy });
        return { tags: tagsIn(await response.text()), page: nextPage(response) };
      },
    );
    tags.push(...next.tags);
    page = next.page;
  }
  return [...new Set(tags)];
}

/** `tags` may be null for a repository without any (distribution, Harbor). */
function tagsIn(text: string): string[] {
  try {
    const { tags } = JSON.parse(text) as { tags?: unknown };
    return Array.isArray(tags) ? tags.filter((tag) => typeof tag === 'string') : [];
  } catch {
    return [];
  }
}

/** The next page of a list, on the registry itself; undefined at the last one. RFC 8288. */
export function nextPage(response: RegistryResponse): URL | undefined {
  for (const link of response
    .getAll('link')
    .join(',')
    .matchAll(/<([^>]*)>([^<]*)/g)) {
    const [, target = '', parameters = ''] = link;
    if (!/;\s*rel\s*=\s*"?next"?/i.test(parameters) || !URL.canParse(target, response.url.href)) continue;
    const next = new URL(target, response.url);
    // Registries behind a proxy name their inner address here (Harbor, Artifactory): path and query are what counts.
    return sameOrigin(next, response.url) ? next : new URL(`${next.pathname}${next.search}`, response.url);
  }
  return undefined;
}
