/** Asking for blobs and reading small ones. distribution-spec, sections "Checking if content exists" and "Pulling blobs". */
import { type Digest, digestOf } from '../image/oci.ts';
import { type Place, retrying } from './context.ts';
import { errorOf, RegistryError } from './error.ts';
import type { RegistryResponse } from './response.ts';

export type BlobState =
  | { readonly state: 'present'; readonly size?: number }
  | { readonly state: 'absent' }
  /** The registry does not say: push-only credentials (403), no HEAD (405). */
  | { readonly state: 'unknown' };

/** Answers 2xx to HEAD are 'present', 404 is 'absent', anything else but 401 'unknown'. Throws RegistryError. */
export async function headBlob(place: Place, digest: Digest, signal: AbortSignal): Promise<BlobState> {
  const step = 'looking for a blob';
  const response = await ask(place, 'HEAD', `blobs/${digest}`, { signal, step });
  await response.discard();
  if (response.status === 404) return { state: 'absent' };
  if (response.status === 401) throw await errorOf(response, { method: 'HEAD', step, remedy: response.remedy });
  if (response.status !== 200) return { state: 'unknown' };
  const size = sizeTold(response, digest);
  return size === undefined ? { state: 'present' } : { state: 'present', size };
}

/** serverless-registry describes a mounted blob as the link that it keeps in its place: other digest, other size. */
function sizeTold({ headers }: RegistryResponse, digest: Digest): number | undefined {
  const named = headers['docker-content-digest'];
  if (named !== undefined && named !== digest) return undefined;
  const size = headers['content-length'];
  return size !== undefined && /^\d{1,15}$/.test(size) ? Number(size) : undefined;
}

export interface FetchOptions {
  readonly maxBytes: number;
  readonly signal: AbortSignal;
}

/** The bytes of a blob that hash to its digest; undefined for 404. Throws RegistryError, also for other or more bytes. */
export async function fetchBlob(place: Place, digest: Digest, options: FetchOptions): Promise<Buffer | undefined> {
  const step = 'reading a blob';
  const response = await ask(place, 'GET', `blobs/${digest}`, { signal: options.signal, step });
  if (response.status === 404) {
    await response.discard();
    return undefined;
  }
  if (response.status !== 200) throw await errorOf(response, { method: 'GET', step, remedy: response.remedy });
  const bytes = await response.bytes(options.maxBytes);
  if (digestOf(bytes) !== digest) throw otherBytes(response, digest, bytes, step);
  return bytes;
}

/** The error for an answer whose bytes are not those of the digest. */
export function otherBytes(response: RegistryResponse, digest: string, bytes: Buffer, step: string): RegistryError {
  const reason = `${bytes.length} bytes with the digest ${digestOf(bytes)} came in place of ${digest}`;
  return new RegistryError({
    kind: 'protocol',
    method: response.method,
    url: response.url,
    reason,
    step,
    temporary: false,
  });
}

/** HEAD or GET of something in the repository, repeated while the answer is a transient one. */
export function ask(
  place: Place,
  method: 'GET' | 'HEAD',
  path: string,
  options: { readonly signal: AbortSignal; readonly step: string; readonly headers?: Readonly<Record<string, string>> },
): Promise<RegistryResponse> {
  const { signal, step, headers } = options;
  const { transport } = place.context;
  const task = { label: `${place.name} ${path}`, signal };
  return retrying(place.context, task, step, () =>
    transport.send({ method, url: place.url(path), headers, scopes: place.scopes, signal, step }),
  );
}
