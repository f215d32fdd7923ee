/** What the steps of a push share: registries, compressor, spool, cache, what is known of layers. */

import { join } from 'node:path';
import { COMPRESSIONS } from '../blob/compress/compression.ts';
import { CompressorPool } from '../blob/compress/pool.ts';
import { expectOwnFolder, ownName } from '../blob/private-folder.ts';
import { SPOOL_PREFIX, Spool } from '../blob/spool.ts';
import { LayerCache } from '../cache/layer-cache.ts';
import { UploadSessions, uploadSessionsFolder } from '../cache/upload-sessions.ts';
import { MAX_DOCUMENT_BYTES } from '../oci/documents.ts';
import type { Reference } from '../oci/reference.ts';
import type { Descriptor, Digest } from '../oci/types.ts';
import { resolveCredentials } from '../registry/auth/stored-credentials.ts';
import type { FetchedManifest } from '../registry/manifests.ts';
import { Registry } from '../registry/registry.ts';
import type { Repository } from '../registry/repository.ts';
import { PushStats, type Report } from './events.ts';
import { BlobNames } from './image-blobs.ts';
import { EarlierImages, KnownLayers } from './known-layers.ts';
import type { ImageRequest, RequestOptions } from './options.ts';
import { TargetRegistry } from './registries.ts';
import { UploadSlots } from './slots.ts';
import { TargetRepository } from './target-repository.ts';

/** What all images of a push (or a merge) share. */
export interface SharedContext<Request extends RequestOptions = RequestOptions> {
  readonly request: Request;
  readonly report: Report;
  readonly signal: AbortSignal;
  /** By API host. */
  readonly hosts: ReadonlyMap<string, RegistryHost>;
  readonly documents: RegistryDocuments;
  readonly known: KnownLayers;
  readonly stats: PushStats;
  readonly names: BlobNames;
  readonly cache: OnDemand<LayerCache> | undefined;
  readonly spool: OnDemand<Spool>;
  /** Upload sessions that a later push may go on with; undefined where none would find them. */
  readonly sessions: UploadSessions | undefined;
  readonly pool: OnDemand<CompressorPool>;
}

/** What the steps of one image's push share. */
export interface PushContext extends SharedContext {
  readonly image: ImageRequest;
  /** Where this image goes. */
  readonly registries: readonly TargetRegistry[];
  readonly earlier: EarlierImages;
}

/** The repositories of an image that have not failed. */
export const activeRepositories = ({ registries }: Pick<PushContext, 'registries'>) =>
  registries.flatMap(({ active }) => active);

/** The registries that have not failed. Throws the first failure when none is left, or the signal's reason. */
export function activeRegistries(context: Pick<PushContext, 'registries' | 'signal'>): readonly TargetRegistry[] {
  context.signal.throwIfAborted();
  const active = context.registries.filter(({ isActive }) => isActive);
  if (active.length === 0) throw context.registries[0]?.failure;
  return active;
}

/** What only some pushes need: made when it is first asked for, and closed only if it was. */
export class OnDemand<T extends { close(): Promise<void> }> {
  readonly #make: () => Promise<T>;
  #making: Promise<T> | undefined;
  #made: T | undefined;
  #closed = false;

  constructor(make: () => Promise<T>) {
    this.#make = make;
  }

  /** The same one each time. Rejects as its making does, and after `close`. */
  async get(): Promise<T> {
    if (this.#closed) throw new Error('the push is over');
    this.#making ??= this.#make();
    this.#made = await this.#making;
    return this.#made;
  }

  /** What was made, if it was asked for. */
  get made(): T | undefined {
    return this.#made;
  }

  async close(): Promise<void> {
    this.#closed = true;
    await (await this.#making)?.close();
  }
}

/**
 * Opens what every push needs, and prepares what some do; nothing has been sent yet. The caller closes it. Throws for
 * unusable credentials, and LayerError for a work folder that another user may have made.
 */
export async function openContext<Request extends RequestOptions>(
  request: Request,
  report: Report,
  signal: AbortSignal,
): Promise<SharedContext<Request>> {
  const { compression, workDir } = request;
  const level = request.compressionLevel ?? COMPRESSIONS[compression].defaultLevel;
  await expectOwnFolder(workDir);
  const hosts = await openRegistries(request, { report, signal });
  for (const [host, { registry }] of hosts) {
    const reads = (request.cacheFrom ?? []).filter(({ apiHost }) => apiHost === host);
    registry.connect(reads.map(({ repository }) => repository));
  }
  return {
    request,
    report,
    signal,
    hosts,
    documents: new RegistryDocuments(),
    known: new KnownLayers(compression),
    stats: new PushStats(),
    names: new BlobNames(),
    cache: request.cache ? cacheFor(request, level, report, signal) : undefined,
    spool: new OnDemand(() => Spool.open(join(workDir, ownName(SPOOL_PREFIX)), { uploads: request.concurrency })),
    sessions: sessionsFor(request),
    pool: new OnDemand(async () => new CompressorPool({ compression, level })),
  };
}

/** The context of one image. */
export function contextOf(shared: SharedContext, image: ImageRequest): PushContext {
  const registries = targetsOf(image, shared.hosts, shared);
  return { ...shared, image, registries, earlier: new EarlierImages(shared, registries) };
}

function cacheFor(request: RequestOptions, level: number, report: Report, signal: AbortSignal): OnDemand<LayerCache> {
  return new OnDemand(async () => {
    return new LayerCache({
      dir: request.workDir,
      compression: request.compression,
      level,
      repositories: [...new Set(request.destinations.map(repositoryName))],
      remote: request.remoteCache,
      maxSize: request.cacheMaxSize,
      concurrency: request.concurrency,
      log: { info: (text) => report({ type: 'info', text }), debug: (text) => report({ type: 'debug', text }) },
      signal,
    });
  });
}

function sessionsFor({ dryRun, workDir, remoteCache, env }: RequestOptions): UploadSessions | undefined {
  const folder = dryRun ? undefined : uploadSessionsFolder({ workDir, isAction: remoteCache, env });
  return folder === undefined ? undefined : new UploadSessions(folder);
}

/** As the cache names repositories: by the host that is asked, so that a blob can be mounted from one. */
const repositoryName = ({ apiHost, repository }: Reference): string => `${apiHost}/${repository}`;

/** Ends upload sessions, connections and threads, and removes the spool and what the cache does not keep. */
export async function closeContext({ hosts, pool, spool, cache, sessions }: SharedContext): Promise<void> {
  const registries = [...hosts.values()].map(({ registry }) => registry.close());
  await Promise.allSettled([...registries, pool.close()]);
  sessions?.close();
  await Promise.allSettled([spool.close(), cache?.close()]);
}

/** Documents of registries (manifests, small blobs): each is asked for once in a push, whichever step needs it. */
class RegistryDocuments {
  readonly #manifests = new Map<string, Promise<FetchedManifest | undefined>>();
  readonly #descriptors = new Map<string, Promise<Descriptor | undefined>>();
  readonly #blobs = new Map<string, Promise<Buffer | undefined>>();
  readonly #scopes = new Map<Repository, number>();

  /**
   * A manifest by tag or digest, verified; undefined when there is none. Throws RegistryError or the signal's reason.
   */
  manifest(repository: Repository, reference: string, signal: AbortSignal): Promise<FetchedManifest | undefined> {
    return once(this.#manifests, this.#key(repository, reference), () => repository.getManifest(reference, signal));
  }

  /**
   * What a tag or digest names, by HEAD unless the manifest itself was asked for; undefined when there is nothing.
   * Throws RegistryError or the signal's reason.
   */
  async descriptor(repository: Repository, reference: string, signal: AbortSignal): Promise<Descriptor | undefined> {
    const key = this.#key(repository, reference);
    const manifest = this.#manifests.get(key);
    if (manifest) return (await manifest)?.descriptor;
    return once(this.#descriptors, key, () => repository.headManifest(reference, signal));
  }

  /** A small blob, verified; undefined when there is none. Throws RegistryError or the signal's reason. */
  blob(repository: Repository, digest: Digest, signal: AbortSignal): Promise<Buffer | undefined> {
    const options = { maxBytes: MAX_DOCUMENT_BYTES, signal };
    return once(this.#blobs, this.#key(repository, digest), () => repository.getBlob(digest, options));
  }

  /** Repositories of several registries may have one name. */
  #key(repository: Repository, reference: string): string {
    const number = this.#scopes.get(repository) ?? this.#scopes.size;
    this.#scopes.set(repository, number);
    return `${number} ${reference}`;
  }
}

function once<T>(made: Map<string, Promise<T>>, key: string, make: () => Promise<T>): Promise<T> {
  const known = made.get(key);
  if (known) return known;
  const promise = make();
  // An answer that is not needed any more may still fail.
  promise.catch(() => {});
  made.set(key, promise);
  return promise;
}

// The registries of a push: opened once for all of its images, and what one image sees of them.

/** A registry that the push goes to, shared by all images of it. */
interface RegistryHost {
  readonly registry: Registry;
  /** The uploads to it, of all images together. */
  readonly slots: UploadSlots;
}

interface Surroundings {
  readonly report: Report;
  readonly signal: AbortSignal;
}

/** The registries of all destinations, by API host. Nothing is sent yet. Throws for unusable credentials. */
async function openRegistries(
  request: RequestOptions,
  surroundings: Surroundings,
): Promise<ReadonlyMap<string, RegistryHost>> {
  const byHost = Map.groupBy(request.destinations, ({ apiHost }) => apiHost);
  const opened = await Promise.all(
    [...byHost].map(async ([host, references]) => [host, await openRegistry(request, host, references, surroundings)]),
  );
  return new Map(opened as [string, RegistryHost][]);
}

/** One registry. Nothing is sent yet. Throws for unusable credentials. */
export async function openRegistry(
  request: RequestOptions,
  host: string,
  references: readonly Reference[],
  { report }: Surroundings,
): Promise<RegistryHost> {
  const { credentials, insecure, ca, tlsVerify, chunkSize, maxRetries, maxWait, env, concurrency } = request;
  // A secret has one owner: the other registries' credentials are found in files.
  const isOwner = host === request.destinations[0]?.apiHost;
  const repositories = [...new Set(references.map(({ repository }) => repository))];
  const found = await resolveCredentials({
    registry: host,
    ...(isOwner ? credentials : undefined),
    env,
    repositories,
    onSecret: (value) => report({ type: 'secret', value }),
  });
  if (credentials !== undefined && !isOwner) {
    const source = found.credentials === undefined ? 'none were found' : `${found.credentials.source} is used`;
    const owner = request.destinations[0]?.registry;
    const text = `The inputs username and password are for ${owner} alone; for ${references[0]?.registry} ${source}`;
    report({ type: 'info', text });
  }
  const registry = new Registry({
    host,
    insecure,
    ...(ca === undefined ? {} : { ca }),
    credentials: found.credentials,
    credentialProblems: found.problems,
    inputsAreFor: isOwner ? undefined : request.destinations[0]?.registry,
    env,
    chunkSize,
    concurrency,
    maxRetries,
    maxWait,
    tlsVerify,
    onEvent: (event) => report(event),
  });
  // One token for all of them: see Registry.connect.
  for (const name of repositories) registry.repository(name);
  return { registry, slots: new UploadSlots(concurrency) };
}

/** The registries and repositories of one image, in the order of its destinations. */
function targetsOf(
  { destinations }: Pick<ImageRequest, 'destinations'>,
  hosts: ReadonlyMap<string, RegistryHost>,
  {
    signal,
    report,
    stats,
    sessions,
  }: Surroundings & { readonly stats: PushStats; readonly sessions?: UploadSessions | undefined },
): TargetRegistry[] {
  return [...Map.groupBy(destinations, ({ apiHost }) => apiHost)].map(([host, references]) => {
    const { registry, slots } = hosts.get(host)!;
    const repositories = [...Map.groupBy(references, ({ repository }) => repository)].map(
      ([name, group]) => new TargetRepository(registry.repository(name), group, signal),
    );
    return new TargetRegistry({ report, stats, sessions, registry, repositories, slots });
  });
}
