/** The registry as an HTTP server on a loopback port: what tests and the demo start. */
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer, type IncomingMessage, type RequestListener, type ServerResponse } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Answer, answer, refusal } from './answer.ts';
import {
  type AuthCounts,
  type AuthOptions,
  authFrom,
  counting,
  type Guard,
  newCounts,
  type TokenService,
} from './auth.ts';
import { blobHandlers } from './blobs.ts';
import { write } from './connection.ts';
import { type Exchange, exchangeOf, type RequestRecord } from './exchange.ts';
import { type Desk, firstAnswer, type Handler } from './handler.ts';
import { listenOnLoopback, PATIENT } from './loopback.ts';
import { findManifest, manifestHandlers } from './manifests.ts';
import { type ProfileName, type ProfileOptions, profile } from './profiles.ts';
import { habitsOf } from './quirk.ts';
import { isRepository, type Step } from './steps.ts';
import { Store, type StoredManifest } from './store.ts';
import { isBroken, uploadHandlers } from './uploads.ts';

export interface RegistryOptions extends ProfileOptions {
  /** How it behaves; `plain` unless told. */
  readonly profile?: ProfileName;
  /** Where blobs go; a folder of its own, removed at the end, unless told. */
  readonly dir?: string;
  /** Who may use it; everybody unless told (or what the profile says). */
  readonly auth?: AuthOptions;
  /** A line for each request. */
  readonly log?: (line: string) => void;
  /** Speaks HTTPS with this key and certificate (PEM); see certificate.ts. */
  readonly tls?: { readonly key: string; readonly cert: string };
  /** The port; any free one unless told. */
  readonly port?: number;
}

export interface Registry {
  /** `127.0.0.1:PORT`. */
  readonly host: string;
  readonly url: string;
  /** All requests so far, in the order of their coming. */
  readonly requests: RequestRecord[];
  readonly auth: AuthCounts;
  /** Blobs that HEAD and GET find in a fallback registry though this one does not have them; by digest. Only `serverless` looks here. */
  readonly fallback: Map<string, Buffer>;
  /** Forgets requests, counts, blobs, manifests and sessions. */
  reset(): Promise<void>;
  /** Of one repository, or of all. */
  openSessions(repository?: string): number;
  /** Everything that it keeps, to be compared: blobs, manifests and tags by repository, upload sessions, files. */
  contents(): unknown;
  blobPath(digest: string): string;
  /** The digests that a repository has. */
  blobs(repository: string): string[];
  /** Puts a blob where it is to be found; gives its digest. */
  addBlob(repository: string, bytes: Uint8Array): Promise<string>;
  removeBlob(repository: string, digest: string): Promise<boolean>;
  manifest(repository: string, reference: string): StoredManifest | undefined;
  tags(repository: string): string[];
  /** Bytes of all bodies of POST, PATCH and PUT to upload sessions that were read. */
  uploadedBytes(): number;
  close(): Promise<void>;
}

const ping: Handler = () => ({
  ...answer(200, { 'Content-Type': 'application/json', 'Docker-Distribution-Api-Version': 'registry/2.0' }),
  body: '{}',
});

const HANDLERS: Partial<Record<Step, Handler>> = { ping, ...blobHandlers, ...uploadHandlers, ...manifestHandlers };

/** Everything that answers one exchange. */
interface Machine {
  readonly desk: Desk;
  readonly guard: Guard;
  readonly tokens: TokenService | undefined;
}

async function decide(exchange: Exchange, machine: Machine): Promise<Answer> {
  const { desk } = machine;
  const early = await firstAnswer(desk.quirks, (quirk) => quirk.before?.(exchange, desk));
  if (early !== undefined) return early;
  const { step, repository } = exchange.route;
  if (step === 'token' && machine.tokens !== undefined) return machine.tokens.answer(exchange);
  const refused = machine.guard(exchange);
  if (refused !== undefined) return refused;
  const handler = HANDLERS[step];
  if (handler === undefined) return refusal(404, 'UNSUPPORTED', 'no such endpoint');
  if (repository !== '' && !isRepository(repository)) return refusal(400, 'NAME_INVALID', 'invalid repository name');
  return handler(exchange, desk);
}

async function handle(request: IncomingMessage, response: ServerResponse, machine: Machine, exchange: Exchange) {
  const { record } = exchange;
  const { socket } = request;
  try {
    let given = await decide(exchange, machine);
    for (const quirk of machine.desk.quirks) given = (await quirk.after?.(given, exchange, machine.desk)) ?? given;
    record.status = given.status;
    await write(request, response, given);
  } catch (cause) {
    if (isBroken(cause) || record.broken) socket.destroy();
    else await write(request, response, refusal(500, 'UNKNOWN', String(cause)));
  } finally {
    record.endedAt = Date.now();
  }
}

/** Puts together how this registry behaves and who may use it. */
function machineOf(options: RegistryOptions, store: Store, counts: AuthCounts): Machine {
  const { quirks, auth } = profile(options.profile ?? 'plain', options);
  const desk: Desk = { store, fallback: new Map(), quirks, habits: habitsOf(quirks) };
  const { guard, tokens } = authFrom(options.auth ?? auth ?? 'none', desk.habits, counts);
  return { desk, guard: counting(guard, counts), tokens };
}

/** Starts a registry on 127.0.0.1. The caller closes it. */
export async function startRegistry(options: RegistryOptions = {}): Promise<Registry> {
  const { tls, dir, log } = options;
  const folder = dir ?? (await mkdtemp(join(tmpdir(), 'registry-')));
  const store = new Store(folder);
  await store.prepare();
  const requests: RequestRecord[] = [];
  const auth = newCounts();
  const machine = machineOf(options, store, auth);
  const listener: RequestListener = async (request, response) => {
    const exchange = exchangeOf(request);
    requests.push(exchange.record);
    await handle(request, response, machine, exchange);
    log?.(`${exchange.method} ${exchange.path} ${exchange.record.status} ${exchange.record.bytes}`);
  };
  const server =
    tls === undefined ? createServer(PATIENT, listener) : createTlsServer({ ...PATIENT, ...tls }, listener);
  const listening = await listenOnLoopback(server, options.port);
  const close = async () => {
    await listening.close();
    if (dir === undefined) await rm(folder, { recursive: true, force: true });
  };
  const { host } = listening;
  const url = `${tls === undefined ? 'http' : 'https'}://${host}`;
  return { host, url, requests, auth, ...windows(machine.desk, requests, auth), close };
}

/** What a test may see and change from outside. */
function windows({ store, fallback }: Desk, requests: RequestRecord[], counts: AuthCounts) {
  const sends = (record: RequestRecord) => /^upload-(post|mount|patch|put)$/.test(record.step);
  return {
    fallback,
    reset: async () => {
      requests.length = 0;
      Object.assign(counts, { unauthorized: 0, tokens: 0, tokenRequests: 0 });
      counts.unauthorizedByToken.clear();
      fallback.clear();
      await store.clear();
    },
    openSessions: (repository?: string) =>
      [...store.sessions.values()].filter((one) => repository === undefined || one.repository === repository).length,
    contents: () => store.contents(),
    blobPath: (digest: string) => store.blobPath(digest),
    blobs: (repository: string) => [...(store.repositories.get(repository)?.blobs ?? [])],
    addBlob: (repository: string, bytes: Uint8Array) => store.add(repository, bytes),
    removeBlob: (repository: string, digest: string) => store.removeBlob(repository, digest),
    manifest: (repository: string, reference: string) => findManifest(store.repositories.get(repository), reference),
    tags: (repository: string) => [...(store.repositories.get(repository)?.tags.keys() ?? [])],
    uploadedBytes: () => requests.filter(sends).reduce((sum, record) => sum + record.bytes, 0),
  };
}
