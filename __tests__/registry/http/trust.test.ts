import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { rootCertificates, type TLSSocket } from 'node:tls';
import { describe, expect, it, onTestFinished } from 'vitest';
import {
  certificatesFor,
  certificatesIn,
  certsFolderOf,
  certsFolders,
  trustedRoots,
} from '../../../src/registry/http/trust.ts';
import { loopbackCertificate } from '../../support/registry/certificate.ts';
import { caught, connect, listen, never } from '../helpers/loopback.ts';

const server = loopbackCertificate();
const client = loopbackCertificate();
const der = (pem: string): Buffer => Buffer.from(pem.replace(/-----.*?-----/g, ''), 'base64');

function folder(): string {
  const path = mkdtempSync(join(tmpdir(), 'certs-d-'));
  onTestFinished(() => rmSync(path, { recursive: true }));
  return path;
}

function put(root: string, host: string, files: Record<string, string | Buffer>): string {
  const path = join(root, host);
  mkdirSync(path, { recursive: true });
  for (const [name, content] of Object.entries(files)) writeFileSync(join(path, name), content);
  return root;
}

/** An HTTPS registry that says whether it was shown a certificate. */
const registry = (mutual = false) =>
  listen(
    createServer(
      { ...server, ca: client.cert, requestCert: mutual, rejectUnauthorized: mutual },
      ({ socket }, response) => void response.end((socket as TLSSocket).authorized ? 'known' : 'unknown'),
    ),
  );

async function answer(host: string, options: Parameters<typeof connect>[1]): Promise<string> {
  const { transport, url } = connect(host, options);
  return (await transport.send({ method: 'GET', url: url('/v2/a'), signal: never() })).text();
}

// docker reads *.crt of HOST:PORT as authorities beside the system's, NAME.cert with NAME.key as a client certificate; skopeo and
// podman do the same, in their own folders first.
it.each([
  ['PEM', server.cert],
  ['DER', der(server.cert)],
])('an authority in certs.d is trusted, in %s', async (_, cert) => {
  const host = await registry();
  const root = folder();
  await expect(answer(host, { certsFolders: [root] })).rejects.toMatchObject({ kind: 'tls' });
  put(root, host, { 'ca.crt': cert });
  expect(await answer(host, { certsFolders: [root] })).toBe('unknown');
  const other = put(folder(), '127.0.0.1:1', { 'ca.crt': cert });
  await expect(answer(host, { certsFolders: [other] })).rejects.toMatchObject({ kind: 'tls' });
});

it('a client certificate is shown to a registry that wants one', async () => {
  const host = await registry(true);
  const files = { 'ca.crt': server.cert, 'client.cert': client.cert, 'client.key': client.key };
  expect(await answer(host, { certsFolders: [put(folder(), host, files)] })).toBe('known');
});

it.each(['TLSv1.2', 'TLSv1.3'] as const)('without one the error says that it may be wanted: %s', async (maxVersion) => {
  const options = { ...server, ca: client.cert, requestCert: true, rejectUnauthorized: true, maxVersion };
  const host = await listen(createServer(options, (_, response) => void response.end()));
  const { transport, url } = connect(host, { ca: server.cert });
  const error = await caught(transport.send({ method: 'GET', url: url('/v2/a'), signal: never() }));
  expect(error.remedy).toContain(`client certificate, put it and its key into /etc/docker/certs.d/${host}/`);
});

it('tls-verify: false accepts any certificate, with a warning', async () => {
  const host = await registry();
  const { transport, url, events } = connect(host, { tlsVerify: false });
  const response = await transport.send({ method: 'GET', url: url('/v2/a'), signal: never() });
  expect(await response.text()).toBe('unknown');
  expect(events).toContainEqual({
    type: 'warning',
    text: `tls-verify is false: any certificate of ${host} is accepted`,
  });
});

it('authorities of all folders count, of the first with one the client certificate; what can not be read is passed over', () => {
  const [own, system] = [folder(), folder()];
  put(own, 'r.test:5000', {
    'a.crt': server.cert,
    'b.crt': 'hello',
    'readme.txt': 'x',
    'x.cert': client.cert,
    'x.key': client.key,
  });
  put(system, 'r.test:5000', { 'c.crt': client.cert, 'y.cert': server.cert, 'y.key': server.key });
  const found = certificatesFor('R.test:5000', [own, system, join(own, 'none')]);
  expect(found.ca.map((pem) => pem.trim())).toEqual([server.cert.trim(), client.cert.trim()]);
  expect(found.client).toEqual({ cert: client.cert, key: client.key });
  expect(found.problems).toEqual([expect.stringContaining('b.crt holds no certificate')]);
  expect(certificatesFor('r.test', [own, system])).toEqual({ ca: [], client: undefined, problems: [] });
});

it('Docker Hub has the name that docker gives it', () => {
  const root = put(folder(), 'docker.io', { 'ca.crt': server.cert });
  expect(certificatesFor('registry-1.docker.io', [root]).ca).toHaveLength(1);
});

it.each([
  ['x.cert', client.cert, /x\.cert is a client certificate without .*x\.key \(authorities end in \.crt\)/],
  ['x.key', client.key, /x\.key is a key without its client certificate .*x\.cert/],
])('%s alone is an error, as for docker', (name, content, words) => {
  const root = put(folder(), 'r.test', { [name]: content });
  expect(() => certificatesFor('r.test', [root])).toThrow(words);
});

it.each([
  ['the key of another certificate', { 'x.cert': client.cert, 'x.key': server.key }],
  ['what is no certificate', { 'x.cert': 'x', 'x.key': client.key }],
  ['what is no key', { 'x.cert': client.cert, 'x.key': client.cert }],
])('a client certificate with %s is an error that names its files, as for docker', (_, files) => {
  const root = put(folder(), 'r.test', files);
  expect(() => certificatesFor('r.test', [root])).toThrow(
    /r\.test\/x\.cert and .*r\.test\/x\.key are no client certificate/,
  );
});

it('a key that is no file is an error that names it', () => {
  const root = put(folder(), 'r.test', { 'x.cert': client.cert });
  mkdirSync(join(root, 'r.test', 'x.key'));
  expect(() => certificatesFor('r.test', [root])).toThrow(/client certificate can't be used: .*x\.key is a folder/);
});

it('the folders are those of docker, rootless docker and podman', () => {
  expect(certsFolders({ HOME: '/home/me' })).toEqual([
    '/home/me/.config/containers/certs.d',
    '/home/me/.config/docker/certs.d',
    '/etc/containers/certs.d',
    '/etc/docker/certs.d',
  ]);
});

it('ca-file may be in DER', () => {
  expect(certificatesIn(der(server.cert)).map((pem) => pem.trim())).toEqual([server.cert.trim()]);
  expect(() => certificatesIn(Buffer.from([0x30, 0x82, 0, 1]))).toThrow('can not be read');
});

const PEM = readFileSync(new URL('../../fixtures/tls/ca.pem', import.meta.url), 'utf8');

describe('trustedRoots', () => {
  it('adds to what is trusted anyway', () => {
    const roots = trustedRoots(certificatesIn(`# our own\n${PEM}`));
    expect(roots.at(-1)!.trim()).toBe(PEM.trim());
    expect(roots).toEqual(expect.arrayContaining([rootCertificates[0]]));
    expect(trustedRoots(certificatesIn(PEM + PEM))).toHaveLength(roots.length);
    expect(trustedRoots([])).toHaveLength(roots.length - 1);
  });

  it.each([
    ['', 'holds no certificate'],
    ['-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----', 'holds no certificate'],
    ['-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----', 'holds a certificate that can not be read'],
  ])('says what is wrong with %j', (pem, words) => {
    expect(() => certificatesIn(pem)).toThrow(words);
  });
});

describe('the folders of certificates', () => {
  it('are those of docker and podman on Linux', () => {
    expect(certsFolders({ HOME: '/home/me', XDG_CONFIG_HOME: '/config' }, 'linux')).toEqual([
      '/home/me/.config/containers/certs.d',
      '/config/docker/certs.d',
      '/etc/containers/certs.d',
      '/etc/docker/certs.d',
    ]);
  });

  it('are those of Docker Desktop too on macOS', () => {
    expect(certsFolders({ HOME: '/Users/me' }, 'darwin')).toContain('/Users/me/.docker/certs.d');
  });

  it('are below the profile of the user and the data of all on Windows', () => {
    expect(
      certsFolders({ HOME: '/c/Users/me', USERPROFILE: 'C:\\Users\\me', ProgramData: 'D:\\Data' }, 'win32'),
    ).toEqual([
      'C:\\Users\\me\\.config\\containers\\certs.d',
      'C:\\Users\\me\\.docker\\certs.d',
      'D:\\Data\\docker\\certs.d',
    ]);
  });

  it('are called like the host, on Windows without the colon of a port', () => {
    expect(certsFolderOf('registry.example.com:5000', 'linux')).toBe('registry.example.com:5000');
    expect(certsFolderOf('registry.example.com:5000', 'win32')).toBe('registry.example.com5000');
  });
});
