/** The registries of the matrix: each embedded profile, and Debian's docker-registry. */
import { readFile } from 'node:fs/promises';
import type { Digest } from '../../src/oci/types.ts';
import { profileFor } from '../../src/registry/host/profiles.ts';
import type { RegistryOptions } from '../../src/registry/registry.ts';
import { digestOfBytes } from '../registry/upload/client.ts';
import type { DockerRegistry } from '../support/real/registry.ts';
import { PROFILE_NAMES, type ProfileName, TEST_CREDENTIALS } from '../support/registry/profiles.ts';
import { type Registry, startRegistry } from '../support/registry/server.ts';
import { CHUNK } from './steps.ts';

/** A registry as one cell sees it. */
export interface Site {
  readonly url: string;
  /** Where this cell pushes to; nobody else does. */
  readonly repository: string;
  addBlob(repository: string, bytes: Buffer): Promise<void>;
  blob(digest: Digest): Promise<Buffer | undefined>;
  manifest(tag: string): Promise<Buffer | undefined>;
  /** Requests of the upload that the registry itself refused without a fault of ours: 429s of the profile `hub`. */
  ownRefusals(): number;
  /** Upload sessions that are open in the cell's repository. */
  openSessions(): number;
}

export interface Target {
  readonly name: string;
  /**
   * What becomes of an upload whose body breaks: `kept`: it goes on from there; `lost`: the session is gone;
   * `whole`: a blob goes in one request anyway.
   */
  readonly afterBreak: 'kept' | 'lost' | 'whole';
  /** How the client meets it. */
  readonly client: Partial<RegistryOptions>;
  /** Whether it can ask for tokens. */
  readonly tokens: boolean;
  start(): Running;
}

/** A target at work, for as many cells as there are. */
export interface Running {
  open(cell: string, withTokens: boolean): Promise<Site>;
  close(): Promise<void>;
}

/** Profiles of hosted registries go with the client's own profile for them, as in life. */
const HOSTS: Readonly<Partial<Record<ProfileName, string>>> = {
  ecr: '1.dkr.ecr.eu-west-1.amazonaws.com',
  ghcr: 'ghcr.io',
  gar: 'europe-docker.pkg.dev',
  acr: 'example.azurecr.io',
  hub: 'docker.io',
};

/** Registries that are somebody's service, and ways that are no one product's. */
export const HOSTED: ReadonlySet<string> = new Set([...Object.keys(HOSTS), 'gitlab', 'replicas', 'equalparts']);

const WHOLE: ReadonlySet<string> = new Set(['ghcr', 'gar']);
const LOSING: ReadonlySet<string> = new Set(['distribution2', 'zot', 'gitea', 'docker-registry']);

const afterBreak = (name: string): Target['afterBreak'] =>
  WHOLE.has(name) ? 'whole' : LOSING.has(name) ? 'lost' : 'kept';

const clientFor = (name: ProfileName): Partial<RegistryOptions> => ({
  chunkSize: WHOLE.has(name) ? 'auto' : CHUNK,
  ...(HOSTS[name] === undefined ? {} : { profile: profileFor(HOSTS[name]) }),
});

/** Seconds; longer than any cell. */
const TOKEN_LIFETIME = 60;

function startEmbedded(profile: ProfileName, withTokens: boolean): Promise<Registry> {
  const auth = withTokens ? { auth: { bearer: { ...TEST_CREDENTIALS, lifetimeSeconds: TOKEN_LIFETIME } } } : {};
  const limit = profile === 'limited' ? { limit: CHUNK + 1024 } : {};
  return startRegistry({ profile, minChunk: CHUNK / 2, ...limit, ...auth });
}

const siteIn = (server: Registry, repository: string): Site => ({
  url: server.url,
  repository,
  addBlob: async (name, bytes) => void (await server.addBlob(name, bytes)),
  blob: async (digest) => (server.blobs(repository).includes(digest) ? readFile(server.blobPath(digest)) : undefined),
  manifest: async (tag) => server.manifest(repository, tag)?.bytes,
  ownRefusals: () =>
    server.requests.filter((request) => request.repository === repository && request.status === 429).length,
  openSessions: () => server.openSessions(repository),
});

/** `hub` refuses every so-many-th request: its cells would disturb each other. */
const isAlone = (profile: ProfileName): boolean => profile === 'hub';

/** One server for the cells with tokens, one for those without, each started when it is first asked for. */
function runEmbedded(profile: ProfileName): Running {
  const servers = new Map<string, Promise<Registry>>();
  return {
    open: async (cell, withTokens) => {
      const key = isAlone(profile) ? cell : String(withTokens);
      const server = servers.get(key) ?? startEmbedded(profile, withTokens);
      servers.set(key, server);
      return siteIn(await server, repositoryOf(cell));
    },
    close: async () => {
      for (const server of servers.values()) await (await server).close();
    },
  };
}

/** A repository name for a cell's name. */
const repositoryOf = (cell: string): string =>
  `cells/${cell
    .toLowerCase()
    .match(/[a-z0-9]+/g)
    ?.join('-')}`;

export const EMBEDDED: readonly Target[] = PROFILE_NAMES.map((name) => ({
  name,
  afterBreak: afterBreak(name),
  client: clientFor(name),
  tokens: true,
  start: () => runEmbedded(name),
}));

async function fetched(url: string): Promise<Buffer | undefined> {
  const answer = await fetch(url, { headers: { accept: 'application/vnd.oci.image.manifest.v1+json, */*' } });
  const bytes = Buffer.from(await answer.arrayBuffer());
  return answer.ok ? bytes : undefined;
}

async function put(url: string, repository: string, bytes: Buffer): Promise<void> {
  const opened = await fetch(`${url}/v2/${repository}/blobs/uploads/`, { method: 'POST' });
  const closing = `${opened.headers.get('location')}&digest=${digestOfBytes(bytes)}`;
  const closed = await fetch(closing, { method: 'PUT', body: new Uint8Array(bytes) });
  if (closed.status !== 201) throw new Error(`the blob could not be put: ${closed.status} ${await closed.text()}`);
}

/** Debian's docker-registry; it runs already, and asks for no credentials. */
export const realTarget = (registry: DockerRegistry): Target => {
  const url = `http://${registry.host}`;
  const siteAt = (repository: string): Site => ({
    url,
    repository,
    addBlob: (name, bytes) => put(url, name, bytes),
    blob: (digest) => fetched(`${url}/v2/${repository}/blobs/${digest}`),
    manifest: (tag) => fetched(`${url}/v2/${repository}/manifests/${tag}`),
    ownRefusals: () => 0,
    openSessions: () => registry.openUploads().filter((upload) => upload.startsWith(`${repository}/`)).length,
  });
  return {
    name: 'docker-registry',
    afterBreak: afterBreak('docker-registry'),
    client: { chunkSize: CHUNK },
    tokens: false,
    start: () => ({ open: async (cell) => siteAt(repositoryOf(cell)), close: async () => {} }),
  };
};
