/** Manifests, tags and referrers over HTTP. distribution-spec v1.1, "Pulling manifests" to "Listing Referrers". */
import { type Answer, answer, refusal } from './answer.ts';
import { type Exchange, readAll } from './exchange.ts';
import type { Desk, Handler } from './handler.ts';
import type { Step } from './steps.ts';
import { type Repository, type StoredManifest, sha256 } from './store.ts';

/** distribution-spec: a registry should take manifests of 4 megabytes at least. */
const LARGEST_MANIFEST = 4 * 1024 * 1024;
const INDEX = 'application/vnd.oci.image.index.v1+json';
const TAG = /^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$/;

interface Reference {
  readonly mediaType?: string;
  readonly digest?: string;
  readonly urls?: readonly string[];
}

/** The parts of a manifest or index that say what it needs. */
interface Document {
  readonly mediaType?: string;
  readonly artifactType?: string;
  readonly config?: Reference;
  readonly layers?: readonly Reference[];
  readonly manifests?: readonly Reference[];
  readonly subject?: Reference;
  readonly annotations?: Record<string, string>;
}

const invalid = (message: string): Answer => refusal(400, 'MANIFEST_INVALID', message);
const unknown = (): Answer => refusal(404, 'MANIFEST_UNKNOWN', 'manifest unknown to registry');

function parse(bytes: Buffer): Document | undefined {
  try {
    const value: unknown = JSON.parse(bytes.toString('utf8'));
    return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Document) : undefined;
  } catch {
    return undefined;
  }
}

const isForeign = (layer: Reference): boolean =>
  layer.urls !== undefined && /foreign|nondistributable/.test(layer.mediaType ?? '');

/** The digests that a document names and the repository does not have. */
function missing(document: Document, repository: Repository): string[] {
  const blobs = [document.config, ...(document.layers ?? []).filter((layer) => !isForeign(layer))];
  const lost: string[] = [];
  for (const blob of blobs) if (blob?.digest && !repository.blobs.has(blob.digest)) lost.push(blob.digest);
  for (const child of document.manifests ?? []) {
    if (child.digest && !repository.manifests.has(child.digest)) lost.push(child.digest);
  }
  return lost;
}

/** What is wrong with a manifest, if anything. */
function refuse(exchange: Exchange, desk: Desk, bytes: Buffer, document: Document | undefined): Answer | undefined {
  const { reference } = exchange.route;
  const contentType = exchange.headers['content-type'];
  if (contentType === undefined) return invalid('a manifest needs a Content-Type');
  if (document === undefined) return invalid('the manifest is not a JSON object');
  if (document.mediaType === undefined && desk.habits.wantsMediaType) return invalid('mediaType: Required');
  if (document.mediaType !== undefined && document.mediaType !== contentType) {
    return invalid(`mediaType is ${document.mediaType}, Content-Type is ${contentType}`);
  }
  const isDigest = reference.includes(':');
  if (isDigest && desk.habits.checksManifestDigest && reference !== sha256(bytes)) {
    return refusal(400, 'DIGEST_INVALID', 'provided digest did not match uploaded content');
  }
  return isDigest || TAG.test(reference) ? undefined : refusal(400, 'TAG_INVALID', 'the tag is not of the right form');
}

const put: Handler = async (exchange, desk) => {
  const { repository: name, reference } = exchange.route;
  if ((exchange.length ?? 0) > LARGEST_MANIFEST) return refusal(413, 'SIZE_INVALID', 'the manifest is too large');
  const bytes = await readAll(exchange);
  const document = parse(bytes);
  const refused = refuse(exchange, desk, bytes, document);
  if (refused !== undefined || document === undefined) return refused ?? invalid('no document');
  const repository = desk.store.repository(name);
  const lost = missing(document, repository);
  if (lost.length > 0) return desk.habits.unknownBlobs(lost);
  const stored: StoredManifest = { digest: sha256(bytes), mediaType: exchange.headers['content-type'] ?? '', bytes };
  repository.manifests.set(stored.digest, stored);
  if (reference.includes(':')) repository.manifests.set(reference, stored);
  else repository.tags.set(reference, stored.digest);
  const subject = document.subject?.digest;
  return answer(201, {
    Location: `/v2/${name}/manifests/${reference}`,
    'Docker-Content-Digest': stored.digest,
    ...(subject !== undefined && desk.habits.hasReferrers ? { 'OCI-Subject': subject } : {}),
  });
};

/** The manifest that a tag or digest of a repository names. */
export function findManifest(repository: Repository | undefined, reference: string): StoredManifest | undefined {
  const digest = reference.includes(':') ? reference : repository?.tags.get(reference);
  return digest === undefined ? undefined : repository?.manifests.get(digest);
}

const get: Handler = (exchange, desk) => {
  const { repository, reference } = exchange.route;
  const found = findManifest(desk.store.repositories.get(repository), reference);
  if (found === undefined) return unknown();
  const headers = {
    'Content-Type': found.mediaType,
    'Docker-Content-Digest': found.digest,
    'Content-Length': String(found.bytes.length),
  };
  return { status: 200, headers, body: found.bytes };
};

const remove: Handler = (exchange, desk) => {
  const { repository: name, reference } = exchange.route;
  const repository = desk.store.repositories.get(name);
  if (!reference.includes(':')) return repository?.tags.delete(reference) ? answer(202) : unknown();
  if (repository?.manifests.delete(reference) !== true) return unknown();
  for (const [tag, digest] of repository.tags) if (digest === reference) repository.tags.delete(tag);
  return answer(202);
};

const json = (value: unknown, headers: Record<string, string>): Answer => ({
  status: 200,
  headers: { 'Content-Type': 'application/json', ...headers },
  body: JSON.stringify(value),
});

const tags: Handler = (exchange, desk) => {
  const { repository: name, reference } = exchange.route;
  const repository = desk.store.repositories.get(name);
  if (repository === undefined || reference !== 'list') {
    return refusal(404, 'NAME_UNKNOWN', 'repository name not known to registry');
  }
  const last = exchange.query.get('last') ?? '';
  const later = [...repository.tags.keys()].sort().filter((tag) => tag > last);
  const count = Number(exchange.query.get('n') ?? later.length);
  const shown = later.slice(0, count);
  const next = `</v2/${name}/tags/list?n=${count}&last=${shown.at(-1) ?? ''}>; rel="next"`;
  return json({ name, tags: shown }, shown.length < later.length ? { Link: next } : {});
};

const referrers: Handler = (exchange, desk) => {
  const { repository: name, reference } = exchange.route;
  if (!desk.habits.hasReferrers)
    return { ...answer(404, { 'Content-Type': 'text/plain' }), body: '404 page not found\n' };
  const wanted = exchange.query.get('artifactType');
  const manifests = [];
  for (const stored of new Set(desk.store.repositories.get(name)?.manifests.values() ?? [])) {
    const document = parse(stored.bytes);
    if (document?.subject?.digest !== reference) continue;
    const artifactType = document.artifactType ?? document.config?.mediaType;
    if (wanted !== null && wanted !== artifactType) continue;
    const { mediaType, digest, bytes } = stored;
    manifests.push({ mediaType, digest, size: bytes.length, artifactType, annotations: document.annotations });
  }
  return json(
    { schemaVersion: 2, mediaType: INDEX, manifests },
    { 'Content-Type': INDEX, ...(wanted === null ? {} : { 'OCI-Filters-Applied': 'artifactType' }) },
  );
};

export const manifestHandlers: Partial<Record<Step, Handler>> = {
  'manifest-put': put,
  'manifest-head': get,
  'manifest-get': get,
  'manifest-delete': remove,
  tags,
  referrers,
};
