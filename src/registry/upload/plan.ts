/** T2 and T3: what is sent next. */
import type { BlobIdentity } from '../body.ts';
import { UploadError } from './error.ts';
import type { Upload } from './upload.ts';
import type { Piece } from './verdict.ts';

/**
 * R2 takes objects of 5 GiB in one copy, and serverless-registry closes an upload by such a copy
 * (https://developers.cloudflare.com/r2/platform/limits/).
 */
const LARGEST_ON_SERVERLESS = 5 * 2 ** 30;

export type Next =
  /** One HEAD may save what is left to send. */
  | { readonly is: 'look' }
  | { readonly is: 'chunk'; readonly piece: Piece }
  /** The closing PUT, with the bytes that go in its body (perhaps none). */
  | { readonly is: 'close'; readonly piece: Piece; readonly identity: BlobIdentity };

/** Waits for the bytes of the next request and says which one it is. Throws UploadError when the limits leave no way. */
export async function plan(upload: Upload): Promise<Next> {
  const { session, host, body } = upload;
  if (upload.monolithic && session.chunkSize === undefined) return wholeInOne(upload);
  const growing = body.identity === undefined;
  const size = session.chunkSize ?? (growing ? host.growingChunk : host.largestBody);
  // One byte more than the chunk: to know whether it is the last one.
  const { available, ended } = await upload.reach(session.offset + size + 1);
  warnOfSize(upload, body.identity?.size ?? available);
  if (ended) {
    const left = await ending(upload, size);
    if (left !== undefined) return left;
  }
  session.chunkSize ??= host.chunkSize(growing);
  return { is: 'chunk', piece: await chunk(upload, session.chunkSize) };
}

/** The blob's end is known: what there is to do but another chunk; undefined for a chunk. */
async function ending(upload: Upload, size: number): Promise<Next | undefined> {
  const { session, host, body } = upload;
  const { size: whole } = body.identity ?? (await upload.whole());
  const left = whole - session.offset;
  const fitsInOne = session.offset === 0 && session.chunkSize === undefined && left <= host.largestBody;
  const endsNow = left === 0 || fitsInOne || (host.lastChunkInPut && left <= size);
  if (!upload.looked && (endsNow || left > size)) return { is: 'look' };
  if (!endsNow) return undefined;
  // Chunks need no more than the length: a blob out of a store is still being verified while they go. What is closed is verified.
  return { is: 'close', piece: { start: session.offset, end: whole }, identity: await upload.whole() };
}

/** Chunks of a session are equal; only the blob's end makes one smaller. */
async function chunk(upload: Upload, size: number): Promise<Piece> {
  const start = upload.session.offset;
  const { available } = await upload.reach(start + size);
  return { start, end: Math.min(start + size, available) };
}

/** T7: the whole blob in one PUT, if nobody forbids a body of that size. */
async function wholeInOne(upload: Upload): Promise<Next> {
  const { host } = upload;
  const identity = await upload.whole();
  if (!upload.looked) return { is: 'look' };
  if (identity.size > host.knownLimit) {
    throw new UploadError(
      `${upload.options.label}: ${host.host} takes no chunks (${host.noChunks}), and one body may have ${host.knownLimit} bytes at most: the blob has ${identity.size}`,
      {
        remedy:
          'raise the limit (chunk-size, or that of the proxy in front of the registry), or use a registry that takes chunks',
      },
    );
  }
  return { is: 'close', piece: { start: 0, end: identity.size }, identity };
}

function warnOfSize(upload: Upload, bytes: number): void {
  const { host, onEvent } = upload.context;
  if (upload.warnedOfSize || bytes <= LARGEST_ON_SERVERLESS || !host.announcesChunks) return;
  upload.warnedOfSize = true;
  onEvent({
    type: 'warning',
    text: `${upload.options.label} is larger than 5 GiB, and ${host.host} looks like serverless-registry, whose stock version cannot close such an upload: make the layer smaller if this fails`,
  });
}
