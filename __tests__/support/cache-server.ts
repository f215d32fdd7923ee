/**
 * A GitHub Actions cache service on loopback, for the real @actions/cache: version 2 of its protocol.
 * Twirp in JSON with proto field names under `/twirp/github.actions.results.api.v1.CacheService/`
 * (https://twitchtv.github.io/twirp/docs/spec_v7.html), and archives as Azure block blobs
 * (https://learn.microsoft.com/rest/api/storageservices/put-block-list). Entries are immutable.
 */
import { createHash, randomUUID } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { BlobStore } from './cache-server-blobs.ts';

/** What can be made to fail: the three calls, and the bytes on their way up and down. */
export type CacheOperation = 'create' | 'finalize' | 'lookup' | 'upload' | 'download';

/**
 * How it fails. `read-only` and `unreadable` are refusals of the token; `corrupt` (garbage), `truncate` (half of the archive) and
 * `other-bytes` (a sound archive with another file's bytes) are for `download`; `exists`: another job was first.
 */
export type CacheFailure =
  | 'none'
  | 'read-only'
  | 'unreadable'
  | 'exists'
  | '429'
  | '5xx'
  | 'hang'
  | 'not-json'
  | 'reset'
  | 'corrupt'
  | 'truncate'
  | { readonly bytes: Buffer };

export interface CacheEntry {
  readonly key: string;
  readonly version: string;
  /** Position in the order of creation: the newest wins when several match a prefix. */
  readonly number: number;
  readonly blob: string;
  /** Bytes of the archive; undefined until it was finalized. */
  size?: number;
}

export interface CacheServer {
  readonly url: string;
  /** What a runner sets for an action. A test adds its own RUNNER_TEMP, HOME and GITHUB_WORKSPACE. */
  readonly env: Readonly<Record<string, string>>;
  /** The finalized entries, oldest first. */
  entries(): readonly CacheEntry[];
  /** Switchable at any time; absent means none. */
  readonly failures: Partial<Record<CacheOperation, CacheFailure>>;
  /** Requests so far, by operation, and bytes of archives each way. */
  readonly stats: Record<CacheOperation, number> & { bytesUp: number; bytesDown: number };
  /** Replaces the archive of an entry, as nobody could do on GitHub but by taking over its storage. */
  replace(key: string, archive: Buffer): Promise<void>;
  /** The archive of an entry as it was uploaded. */
  archive(key: string): Promise<Buffer>;
  close(): Promise<void>;
}

const TWIRP = '/twirp/github.actions.results.api.v1.CacheService/';
const OPERATIONS: Readonly<Record<string, CacheOperation>> = {
  CreateCacheEntry: 'create',
  FinalizeCacheEntryUpload: 'finalize',
  GetCacheEntryDownloadURL: 'lookup',
};
/** A request document is a key, a version and at most nine restore keys of 512 characters. */
const MAX_DOCUMENT = 64 * 1024;

/** Starts the service on a free port. `latency`: milliseconds before each answer. `host`: what its URLs name, for a proxy to find. */
export async function startCacheServer(options: { latency?: number; host?: string } = {}): Promise<CacheServer> {
  const folder = await mkdtemp(join(tmpdir(), 'cache-server-'));
  const service = new Service(new BlobStore(folder), options.latency ?? 0);
  const server = createServer((request, response) => {
    service.answer(request, response).catch((error) => {
      if (response.headersSent) response.destroy(error);
      else response.writeHead(500).end(String(error));
    });
  });
  // A client that pauses for longer than Node's 5 s must not find its connection closed.
  server.keepAliveTimeout = 120_000;
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  const url = `http://${options.host ?? '127.0.0.1'}:${(server.address() as AddressInfo).port}`;
  service.url = url;
  return {
    url,
    env: {
      ACTIONS_CACHE_SERVICE_V2: 'true',
      ACTIONS_RESULTS_URL: `${url}/`,
      ACTIONS_RUNTIME_TOKEN: service.token,
    },
    entries: () => service.finalized(),
    failures: service.failures,
    stats: service.stats,
    replace: (key, archive) => writeFile(service.blobs.path(service.named(key).blob), archive),
    archive: (key) => service.blobs.read(service.named(key).blob),
    close: async () => {
      server.closeAllConnections();
      await new Promise((done) => server.close(done));
      await rm(folder, { recursive: true, force: true });
    },
  };
}

class Service {
  readonly blobs: BlobStore;
  readonly #latency: number;
  readonly #entries: CacheEntry[] = [];
  readonly token = randomUUID();
  readonly failures: Partial<Record<CacheOperation, CacheFailure>> = {};
  readonly stats = { create: 0, finalize: 0, lookup: 0, upload: 0, download: 0, bytesUp: 0, bytesDown: 0 };
  url = '';

  constructor(blobs: BlobStore, latency: number) {
    this.blobs = blobs;
    this.#latency = latency;
  }

  finalized(): readonly CacheEntry[] {
    return this.#entries.filter((entry) => entry.size !== undefined);
  }

  named(key: string): CacheEntry {
    const entry = this.finalized().find((candidate) => candidate.key === key);
    if (!entry) throw new Error(`no cache entry ${key}`);
    return entry;
  }

  async answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? '/', this.url);
    const method = url.pathname.startsWith(TWIRP) ? url.pathname.slice(TWIRP.length) : undefined;
    const operation = method === undefined ? blobOperation(request) : OPERATIONS[method];
    if (!operation) return twirpError(response, 404, 'bad_route', `no handler for ${url.pathname}`);
    this.stats[operation]++;
    if (this.#latency) await sleep(this.#latency);
    if (await fail(this.failures[operation], operation, request, response)) return;
    if (method === undefined) return this.#blob(url, operation, request, response);
    if (request.headers.authorization !== `Bearer ${this.token}`)
      return twirpError(response, 401, 'unauthenticated', 'invalid token');
    const document = JSON.parse((await body(request, MAX_DOCUMENT)).toString()) as TwirpRequest;
    json(response, 200, this.#call(operation, document, response));
  }

  #call(operation: CacheOperation, document: TwirpRequest, response: ServerResponse): object | undefined {
    if (operation === 'lookup') return this.#lookup(document);
    const { key, version } = document;
    const entry = this.#entries.find((candidate) => candidate.key === key && candidate.version === version);
    if (operation === 'create') {
      if (entry) return alreadyExists(response);
      const number = this.#entries.length;
      this.#entries.push({ key, version, number, blob: randomUUID() });
      return { ok: true, signed_upload_url: this.#signed(this.#entries[number]!.blob) };
    }
    if (!entry) return { ok: false, message: 'no upload was begun for this entry' };
    const size = this.blobs.size(entry.blob);
    if (size !== Number(document.size_bytes))
      return { ok: false, message: `the archive has ${size} bytes, not ${document.size_bytes}` };
    entry.size = size;
    return { ok: true, entry_id: String(entry.number + 1) };
  }

  /** The key itself first, then each key as a prefix in its order; of several the newest. */
  #lookup({ key, version, restore_keys = [] }: TwirpRequest): object {
    const sound = this.finalized().filter((entry) => entry.version === version);
    const found =
      sound.find((entry) => entry.key === key) ??
      [key, ...restore_keys].map((prefix) => sound.findLast((entry) => entry.key.startsWith(prefix))).find(Boolean);
    return found ? { ok: true, matched_key: found.key, signed_download_url: this.#signed(found.blob) } : { ok: false };
  }

  #signed(blob: string): string {
    return `${this.url}/devstore/actions-cache/${blob}?sig=${encodeURIComponent(this.#signature(blob))}&sv=2024-11-04`;
  }

  #signature(blob: string): string {
    return createHash('sha256').update(`${this.token}/${blob}`).digest('base64');
  }

  async #blob(url: URL, operation: CacheOperation, request: IncomingMessage, response: ServerResponse) {
    const name = url.pathname.split('/').at(-1) ?? '';
    if (url.searchParams.get('sig') !== this.#signature(name)) return void response.writeHead(403).end();
    const bytes =
      operation === 'upload'
        ? await this.blobs.put(name, url.searchParams, request, response)
        : await this.blobs.get(name, request, response, this.failures.download === 'truncate');
    this.stats[operation === 'upload' ? 'bytesUp' : 'bytesDown'] += bytes;
  }
}

interface TwirpRequest {
  readonly key: string;
  readonly version: string;
  readonly restore_keys?: readonly string[];
  readonly size_bytes?: string;
}

function blobOperation(request: IncomingMessage): CacheOperation | undefined {
  if (request.method === 'PUT') return 'upload';
  return request.method === 'GET' || request.method === 'HEAD' ? 'download' : undefined;
}

/** Answers in the failing way, if one is set. Resolves to whether it did; `hang` never answers, until the peer gives up. */
async function fail(
  failure: CacheFailure | undefined,
  operation: CacheOperation,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<boolean> {
  if (failure === undefined || failure === 'none' || failure === 'truncate') return false;
  request.resume();
  if (typeof failure === 'object')
    response.writeHead(200, { 'content-length': failure.bytes.length }).end(failure.bytes);
  else if (failure === 'reset') request.socket.destroy();
  else if (failure === 'hang') await new Promise((gone) => response.once('close', gone));
  else if (failure === 'corrupt') response.writeHead(200, { 'content-length': 4096 }).end(Buffer.alloc(4096, 0x5a));
  else if (failure === 'not-json') response.writeHead(200, { 'content-type': 'text/html' }).end('<html>proxy</html>');
  else if (failure === '429') {
    response.setHeader('retry-after', '60');
    twirpError(response, 429, 'resource_exhausted', 'rate limit exceeded');
  } else if (failure === '5xx') twirpError(response, 503, 'unavailable', 'the service is down');
  else if (failure === 'exists') alreadyExists(response);
  else if (failure === 'unreadable') twirpError(response, 403, 'permission_denied', 'cache read denied: no scope');
  else if (operation === 'create')
    json(response, 200, { ok: false, message: 'cache write denied: the token of this run is read-only' });
  else return false;
  return true;
}

function alreadyExists(response: ServerResponse): undefined {
  twirpError(response, 409, 'already_exists', 'cache entry with the same key, version, and scope already exists');
}

function twirpError(response: ServerResponse, status: number, code: string, msg: string): void {
  json(response, status, { code, msg });
}

function json(response: ServerResponse, status: number, document: object | undefined): void {
  if (document === undefined || response.headersSent) return;
  response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(document));
}

async function body(request: IncomingMessage, limit: number): Promise<Buffer> {
  const pieces: Buffer[] = [];
  let size = 0;
  for await (const piece of request) {
    size += piece.length;
    if (size > limit) throw new Error(`a request body over ${limit} bytes`);
    pieces.push(piece);
  }
  return Buffer.concat(pieces);
}
