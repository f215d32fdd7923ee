/**
 * Whom TLS connections trust and what they show: the system's authorities, the input ca-file, Docker's and Podman's
 * certs.d; and what a server shows.
 */

import { X509Certificate } from 'node:crypto';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { connect, createSecureContext, getCACertificates, type SecureContextOptions } from 'node:tls';
import { readRegularSync } from '../../common/open-regular.ts';
import { homeFolder, pathsOf, type System, variable } from '../../common/platform.ts';
import { DOCKER_HUB, isDockerHub } from '../../oci/reference.ts';

const PEM = /-----BEGIN (?:TRUSTED )?CERTIFICATE-----[^-]+-----END (?:TRUSTED )?CERTIFICATE-----/g;

/** The client certificate that a registry may ask for, PEM. */
interface ClientCertificate {
  readonly cert: string;
  readonly key: string;
}

interface TrustOptions {
  /** Certificates (PEM) that are trusted besides Node's own and the system's. */
  readonly ca?: readonly string[] | undefined;
  readonly client?: ClientCertificate | undefined;
  /** False: any certificate is accepted. Default: true. */
  readonly verify?: boolean | undefined;
}

/**
 * Returns what every TLS connection is made with. Called by the first of them: plain HTTP never reads the system's
 * store.
 */
export type Trust = () => SecureContextOptions & { readonly rejectUnauthorized: boolean };

/** The trust of all TLS connections of one registry. */
export function trustIn({ ca = [], client, verify = true }: TrustOptions): Trust {
  let options: ReturnType<Trust> | undefined;
  return () => {
    options ??= { ca: trustedRoots(ca), ...client, rejectUnauthorized: verify };
    return options;
  };
}

/** These certificates besides Node's own and the system's (as for docker and curl), each once. */
export const trustedRoots = (own: readonly string[]): string[] => [
  ...new Set([...getCACertificates('default'), ...getCACertificates('system'), ...own]),
];

/** The largest file of certificates that is read: the authorities of a system have 220 KB. Bytes. */
export const MAX_CERTIFICATES_BYTES = 16 * 2 ** 20;

/**
 * The certificates of a file, in PEM: several of them in PEM, or one in DER. Throws Error when there is none, or one
 * that can't be read.
 */
export function certificatesIn(file: string | Uint8Array): string[] {
  const bytes = typeof file === 'string' ? Buffer.from(file) : Buffer.from(file);
  const pems = bytes.toString('latin1').match(PEM) ?? [];
  if (pems.length > 0) return pems.map((pem) => readCertificate(pem) && pem);
  // DER begins with an ASN.1 SEQUENCE.
  if (bytes[0] === 0x30) return [readCertificate(bytes).toString()];
  throw new Error('holds no certificate in PEM form (-----BEGIN CERTIFICATE-----) or DER form');
}

function readCertificate(certificate: string | Buffer): X509Certificate {
  try {
    return new X509Certificate(certificate);
  } catch (cause) {
    throw new Error('holds a certificate that can not be read', { cause });
  }
}

/**
 * Docker's and Podman's `certs.d/HOST[:PORT]`: `*.crt` are authorities, `NAME.cert` with `NAME.key` is a client
 * certificate. https://docs.docker.com/engine/security/certificates/,
 * https://github.com/containers/image/blob/main/docs/containers-certs.d.5.md
 */
interface HostCertificates {
  /** PEM. */
  readonly ca: readonly string[];
  readonly client: ClientCertificate | undefined;
  /** What was found and can't be used, for the log: docker and podman pass over such authorities in silence. */
  readonly problems: readonly string[];
}

/** What says whom to trust for a registry. */
interface TrustSources {
  /** `host[:port]` of an image reference. */
  readonly host: string;
  /** The input ca-file, PEM. */
  readonly ca?: string | undefined;
  readonly tlsVerify?: boolean | undefined;
  readonly env?: NodeJS.ProcessEnv | undefined;
  /** In place of the folders of docker and podman. */
  readonly certsFolders?: readonly string[] | undefined;
}

/**
 * The trust of a registry. `warn` hears what can't be used. Throws Error as `certificatesFor` and `certificatesIn` do.
 */
export function trustOf(sources: TrustSources, warn: (text: string) => void): Trust {
  const { host, ca, tlsVerify, env = {}, certsFolders: folders = certsFolders(env) } = sources;
  const found = certificatesFor(host, folders);
  for (const problem of found.problems) warn(problem);
  if (tlsVerify === false) warn(`tls-verify is false: any certificate of ${host} is accepted`);
  const own = ca === undefined ? [] : certificatesIn(ca);
  return trustIn({ ca: [...own, ...found.ca], client: found.client, verify: tlsVerify });
}

/**
 * The folders that docker (rootful, rootless) and podman look in, the user's own first. On macOS and Windows that of
 * Docker Desktop:
 * https://docs.docker.com/desktop/troubleshoot-and-support/faqs/macfaqs/#how-do-i-add-custom-ca-certificates
 */
export function certsFolders(env: NodeJS.ProcessEnv, system: System = process.platform): string[] {
  const { join } = pathsOf(system);
  const home = homeFolder(env, system);
  const podman = join(home, '.config', 'containers', 'certs.d');
  const desktop = join(home, '.docker', 'certs.d');
  if (system === 'win32') {
    const ofAll = variable('PROGRAMDATA', env, system) || 'C:\\ProgramData';
    return [podman, desktop, join(ofAll, 'docker', 'certs.d')];
  }
  const config = env.XDG_CONFIG_HOME || join(home, '.config');
  return [
    podman,
    join(config, 'docker', 'certs.d'),
    ...(system === 'darwin' ? [desktop] : []),
    '/etc/containers/certs.d',
    '/etc/docker/certs.d',
  ];
}

/**
 * The folder of a host: a Windows name has no colon, and docker leaves it out. moby, registry/registry.go, cleanPath.
 */
export const certsFolderOf = (host: string, system: System = process.platform): string =>
  system === 'win32' ? host.replaceAll(':', '') : host;

/**
 * The certificates for a host as an image reference names it (`registry.example.com:5000`). Authorities of all folders
 * count, the first client certificate is used. Throws Error for a client certificate without its key, or a key without
 * its certificate, and for a pair that can't be used, as docker does.
 */
export function certificatesFor(host: string, folders: readonly string[]): HostCertificates {
  const names = isDockerHub(host) ? [DOCKER_HUB, host.toLowerCase()] : [host.toLowerCase()];
  const paths = folders.flatMap((folder) => [...new Set(names)].map((name) => join(folder, certsFolderOf(name))));
  const ca: string[] = [];
  const problems: string[] = [];
  let client: ClientCertificate | undefined;
  for (const folder of new Set(paths)) {
    const files = filesIn(folder);
    for (const name of files.filter((file) => file.endsWith('.crt'))) {
      try {
        ca.push(...certificatesIn(read(join(folder, name))));
      } catch (error) {
        problems.push(`${join(folder, name)} ${(error as Error).message}`);
      }
    }
    client ??= clientIn(folder, files);
  }
  return { ca, client, problems };
}

function clientIn(folder: string, files: readonly string[]): ClientCertificate | undefined {
  const of = (ending: string): string[] =>
    files.filter((file) => file.endsWith(ending)).map((file) => join(folder, file.slice(0, -ending.length)));
  const [certs, keys] = [of('.cert'), of('.key')];
  const alone = certs.find((path) => !keys.includes(path));
  if (alone !== undefined)
    throw new Error(`${alone}.cert is a client certificate without ${alone}.key (authorities end in .crt)`);
  const keyAlone = keys.find((path) => !certs.includes(path));
  if (keyAlone !== undefined)
    throw new Error(`${keyAlone}.key is a key without its client certificate ${keyAlone}.cert`);
  const [path] = certs;
  if (path === undefined) return undefined;
  const client = { cert: readText(`${path}.cert`), key: readText(`${path}.key`) };
  try {
    // A connection that fails for it would not say which file is wrong.
    createSecureContext(client);
  } catch (cause) {
    const why = (cause as Error).message.replace(/^error:[0-9A-F]+:/, '');
    const what = `${path}.cert and ${path}.key are no client certificate in PEM form with its key, without a passphrase`;
    throw new Error(`${what} (${why})`, { cause });
  }
  return client;
}

function readText(path: string): string {
  try {
    return read(path).toString('utf8');
  } catch (cause) {
    throw new Error(`the client certificate can't be used: ${(cause as Error).message}`, { cause });
  }
}

const read = (path: string): Buffer => readRegularSync(path, MAX_CERTIFICATES_BYTES);

/** Folders that are not there, or that this user may not read, are none (as for podman). */
function filesIn(folder: string): string[] {
  try {
    return readdirSync(folder).sort();
  } catch {
    return [];
  }
}

// A server's certificate, as a connection of its own shows it: nothing is sent over it.

export interface Certificate {
  readonly protocol: string;
  readonly subject: string;
  readonly issuer: string;
  readonly validTo: string;
  /** Why it is not trusted, as OpenSSL reports it; undefined when it is. */
  readonly problem: string | undefined;
}

/** How long a handshake may take. Milliseconds. */
const HANDSHAKE_MS = 3000;

/**
 * Looks at the certificate of the server at an address. Undefined when there is no handshake: no connection, no TLS, or
 * a signal. Never rejects.
 */
export function certificateOf(
  { hostname, port }: URL,
  trust: Trust,
  signal: AbortSignal,
): Promise<Certificate | undefined> {
  const servername = /^[\d.]+$|^\[/.test(hostname) ? undefined : hostname;
  return new Promise((resolve) => {
    const socket = connect({
      host: hostname.replace(/^\[|\]$/g, ''),
      port: Number(port || 443),
      ...(servername === undefined ? {} : { servername }),
      ...trust(),
      // It is looked at, and nothing is sent.
      rejectUnauthorized: false,
    });
    const ended = AbortSignal.any([signal, AbortSignal.timeout(HANDSHAKE_MS)]);
    const stop = () => socket.destroy();
    ended.addEventListener('abort', stop, { once: true });
    socket.once('close', () => {
      ended.removeEventListener('abort', stop);
      resolve(undefined);
    });
    socket.on('error', () => resolve(undefined));
    socket.once('secureConnect', () => {
      const { subject, issuer, valid_to: validTo } = socket.getPeerCertificate();
      const problem = socket.authorized ? undefined : String(socket.authorizationError);
      resolve({
        protocol: socket.getProtocol() ?? 'TLS',
        subject: nameOf(subject),
        issuer: nameOf(issuer),
        validTo,
        problem,
      });
      socket.destroy();
    });
  });
}

const nameOf = (name: { readonly CN?: string | string[]; readonly O?: string | string[] } | undefined): string =>
  String(name?.CN ?? name?.O ?? 'no name');
