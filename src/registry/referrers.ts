/** What refers to a manifest: signatures, bills of materials. distribution-spec, "Listing Referrers". */
import { MAX_DOCUMENT_BYTES, readDocument } from '../oci/documents.ts';
import { type Descriptor, type Digest, MediaType } from '../oci/types.ts';
import { ask, type Place } from './host/context.ts';
import { errorOf } from './http/error.ts';
import { nextPage } from './manifests.ts';

/** Pages that a registry that links them in a circle is asked for. */
const MOST_PAGES = 1_000;

/**
 * The manifests that name `subject`; undefined where the registry has no referrers API: it answers 404, or something that is no
 * list of referrers. Throws RegistryError, and ImageError for a list with entries that can't be used.
 */
export async function listReferrers(
  place: Place,
  subject: Digest,
  signal: AbortSignal,
): Promise<readonly Descriptor[] | undefined> {
  const step = 'listing referrers';
  const listed: Descriptor[] = [];
  let page: URL | undefined = place.url(`referrers/${subject}`);
  for (let pages = 0; page !== undefined && pages < MOST_PAGES; pages += 1) {
    const response = await ask(place, 'GET', page, { signal, step, headers: { accept: MediaType.ociIndex } });
    if (response.status === 401) throw await errorOf(response, { method: 'GET', step, remedy: response.remedy });
    if (response.status !== 200 || !isList(response.headers['content-type'])) {
      await response.discard();
      return pages === 0 ? undefined : listed;
    }
    const bytes = await response.bytes(MAX_DOCUMENT_BYTES);
    const document = readDocument(bytes, `the list of referrers of ${subject}`, MediaType.ociIndex);
    if (document.kind === 'index') listed.push(...document.index.manifests);
    page = nextPage(response);
  }
  return listed;
}

const isList = (contentType: string | undefined): boolean =>
  contentType?.split(';', 1)[0]?.trim() === MediaType.ociIndex;
