/** Debian's docker-registry (distribution 2.8) on loopback, with its blobs in a private folder. */
import { existsSync, readdirSync, writeFileSync } from 'node:fs';
import { join, parse } from 'node:path';
import { stringify } from 'yaml';
import { commandOf } from './parts.ts';
import { privateFolder, startServer } from './processes.ts';

export interface DockerRegistryOptions {
  /** Whether it asks for `REGISTRY_LOGIN` by Basic auth. */
  readonly auth?: boolean;
  /** `127.0.0.1:PORT` to listen on; any free port by default. */
  readonly host?: string;
  /** Files in PEM: it speaks HTTPS. */
  readonly tls?: { readonly certificate: string; readonly key: string };
  /** The folder of its storage, which outlives it; by default one that ends with it. */
  readonly storage?: string;
  /** Takes no pushes: in its read-only mode, or as the pull-through cache of the registry at this URL. */
  readonly takesNoPushes?: 'read-only' | { readonly cacheOf: string };
}

export interface DockerRegistry {
  /** `127.0.0.1:PORT`, as in a reference. */
  readonly host: string;
  /** Folder of its storage driver. */
  readonly storage: string;
  log(): string;
  /** Uploads that were opened and neither closed nor deleted, as `repository/uuid`. */
  openUploads(): readonly string[];
  /** Tagged or untagged manifests that it holds, as `repository@sha256:…`. */
  manifests(): readonly string[];
  stop(): Promise<void>;
}

/** The only login that a registry with `auth` knows, and its bcrypt hash as htpasswd keeps it. */
export const REGISTRY_LOGIN = {
  username: 'pusher',
  password: 'correct-horse-battery',
  htpasswd: '$2b$04$kSEHwpq8xvXHMLhUmsoMk.W27UJnULNoL.kmPeJH0eqc2wZgPU/Ta',
} as const;

/** Starts a registry on a port of its own. Throws an Error with its log when it does not come up. */
export const startDockerRegistry = async (options: DockerRegistryOptions = {}): Promise<DockerRegistry> => {
  const command = commandOf('docker-registry', 'docker-registry');
  const folder = privateFolder('registry');
  const storage = options.storage ?? join(folder, 'storage');
  const config = join(folder, 'config.yml');
  const passwords = join(folder, 'htpasswd');
  writeFileSync(passwords, `${REGISTRY_LOGIN.username}:${REGISTRY_LOGIN.htpasswd}\n`);
  writeFileSync(config, stringify(configOf(options, storage, options.auth ? passwords : undefined)));
  const server = startServer({ folder, command: [command, 'serve', config] });
  // It is told port 0 and says in its log which one it got.
  const host = await server.until(() => /listening on (127\.0\.0\.1:\d+)/.exec(server.log())?.[1]);
  const repositories = join(storage, 'docker/registry/v2/repositories');
  return {
    host,
    storage,
    log: server.log,
    // A deleted upload leaves an empty `hashstates` folder behind: what makes one open is the time of its start.
    openUploads: () =>
      entriesOf(repositories, '_uploads', '/').filter((upload) => {
        const { dir, base } = parse(upload);
        return existsSync(join(repositories, dir, '_uploads', base, 'startedat'));
      }),
    manifests: () => entriesOf(repositories, '_manifests', '@sha256:', 'revisions/sha256'),
    stop: server.stop,
  };
};

const configOf = (options: DockerRegistryOptions, storage: string, passwords: string | undefined): object => ({
  version: 0.1,
  log: { level: 'info' },
  storage: {
    filesystem: { rootdirectory: storage },
    delete: { enabled: true },
    maintenance: {
      uploadpurging: { enabled: false },
      ...(options.takesNoPushes === 'read-only' ? { readonly: { enabled: true } } : {}),
    },
  },
  http: { addr: options.host ?? '127.0.0.1:0', ...(options.tls ? { tls: options.tls } : {}) },
  ...(typeof options.takesNoPushes === 'object' ? { proxy: { remoteurl: options.takesNoPushes.cacheOf } } : {}),
  ...(passwords === undefined ? {} : { auth: { htpasswd: { realm: 'tests', path: passwords } } }),
});

const children = (folder: string): readonly string[] => (existsSync(folder) ? readdirSync(folder) : []);

/** What lies in `<repository>/<kind>/<below>` of every repository (of any depth), as `repository<joint>entry`. */
const entriesOf = (root: string, kind: string, joint: string, below = '', repository = ''): readonly string[] =>
  children(join(root, repository)).flatMap((name) => {
    if (name === kind)
      return children(join(root, repository, kind, below)).map((entry) => `${repository}${joint}${entry}`);
    return name.startsWith('_') ? [] : entriesOf(root, kind, joint, below, join(repository, name));
  });
