/** Where an upload goes on. distribution-spec, section "Pushing blobs": Location may be relative, may carry a query, may change. */
import type { Digest } from '../../image/oci.ts';

/** A Location against the URL of the request that it answers; undefined when it is absent or not a URL. */
export function resolveLocation(header: string | undefined, request: URL): URL | undefined {
  if (header === undefined || header.trim() === '' || !URL.canParse(header.trim(), request.href)) return undefined;
  const location = new URL(header.trim(), request);
  location.hash = '';
  return location;
}

/**
 * The URL that closes an upload. The query that is there stays as it is, byte for byte: it may be signed
 * (which is why this is not `searchParams.append`, which writes the whole query anew).
 */
export function withDigest(location: URL, digest: Digest): URL {
  const closing = new URL(location);
  const query = location.search.replace(/^\?/, '').replace(/&$/, '');
  const parameter = `digest=${encodeURIComponent(digest)}`;
  closing.search = query === '' ? `?${parameter}` : `?${query}&${parameter}`;
  return closing;
}
