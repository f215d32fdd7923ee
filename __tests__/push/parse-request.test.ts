import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { rootCertificates } from 'node:tls';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { formatReference } from '../../src/oci/reference.ts';
import { explainLine } from '../../src/push/error.ts';
import { InputError, parseRequest, type RawInputs } from '../../src/push/options.ts';

const surroundings = { workDir: '/somewhere', env: {}, remoteCache: true };
const IMAGE = 'registry.example.com/team/app:1';
const parse = (raw: RawInputs) => parseRequest({ image: IMAGE, ...raw }, surroundings);

/** The one line that a user sees. */
function complaint(raw: RawInputs): string {
  try {
    parse(raw);
  } catch (error) {
    expect(error).toBeInstanceOf(InputError);
    return explainLine(error);
  }
  throw new Error('nothing was wrong');
}

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'parse-request-'));
});
afterAll(() => rmSync(folder, { recursive: true }));

describe('parseRequest', () => {
  it('fills in what the contract says when nothing but the image is given', () => {
    expect(parse({})).toMatchObject({
      image: IMAGE,
      engine: 'auto',
      export: 'auto',
      platforms: [],
      chunkSize: 'auto',
      concurrency: 5,
      maxRetries: 3,
      compression: 'gzip',
      compressionLevel: undefined,
      cache: true,
      cacheFrom: undefined,
      cacheMaxSize: 2 * 2 ** 30,
      fallback: 'none',
      insecure: false,
      dryRun: false,
      credentials: undefined,
    });
  });

  it.each([
    ['99614720', 99_614_720],
    ['95MB', 95_000_000],
    ['95 mb', 95_000_000],
    ['95MiB', 95 * 2 ** 20],
    ['1.5GB', 1_500_000_000],
    ['5242880B', 5_242_880],
    ['512KiB', 524_288],
  ])('reads the size %s', (text, bytes) => {
    expect(parse({ 'chunk-size': text }).chunkSize).toBe(bytes);
  });

  it('takes tags one a line or comma-separated, each once, latest where none is named', () => {
    const { destinations } = parse({ tags: 'a.example/x:1\n  a.example/x:2 , b.example/Y\n\na.example/x:1' });
    expect(destinations.map(formatReference)).toEqual(['a.example/x:1', 'a.example/x:2', 'b.example/y:latest']);
    expect(destinations.map(({ lowered }) => lowered)).toEqual([false, false, true]);
  });

  it('keeps white space in a password', () => {
    expect(parse({ username: 'me', password: ' p ' }).credentials).toEqual({ username: 'me', password: ' p ' });
  });

  it('reads certificates', () => {
    const path = join(folder, 'ca.pem');
    writeFileSync(path, rootCertificates[0] as string);
    expect(parse({ 'ca-file': path }).ca).toContain('BEGIN CERTIFICATE');
  });

  it.each<[RawInputs, string]>([
    [{ image: '' }, 'Input: image: it is missing: write for example image: registry.example.com/team/app:1.2'],
    [{ 'chunk-size': 'abc' }, 'Input: chunk-size: "abc" is not a size: write chunk-size: 95MB, or a number of bytes'],
    [{ 'chunk-size': '0' }, 'Input: chunk-size: "0" is not a size: write chunk-size: 95MB, or a number of bytes'],
    [{ 'chunk-size': '-5MB' }, 'Input: chunk-size: "-5MB" is not a size: write chunk-size: 95MB, or a number of bytes'],
    [{ concurrency: '0' }, 'Input: concurrency: "0" is not a whole number from 1 to 64: write concurrency: 5'],
    [{ 'max-retries': '1.5' }, 'Input: max-retries: "1.5" is not a whole number from 0 to 100: write max-retries: 5'],
    [{ cache: 'yes' }, 'Input: cache: "yes" is neither true nor false: write cache: true'],
    [{ engine: 'lxc' }, 'Input: engine: "lxc" is not one of auto, docker, podman: write engine: auto'],
    [
      { 'compression-level': '13' },
      'Input: compression-level: "13" is not a whole number from 1 to 12: write compression-level: 5',
    ],
  ])('refuses %o', (raw, line) => {
    expect(complaint(raw)).toBe(line);
  });

  it('says which of user name and password is missing', () => {
    expect(complaint({ username: 'me' })).toMatch(/^Input: password: it is empty though username is set/);
    expect(complaint({ password: 'x' })).toMatch(/^Input: username: it is empty though password is set/);
  });

  it('refuses a destination by digest, and one with tag and digest', () => {
    const digest = `sha256:${'a'.repeat(64)}`;
    expect(complaint({ tags: `a.example/x@${digest}` })).toMatch(/^Input: tags: .* has a digest/);
    expect(complaint({ image: `a.example/x:1@${digest}` })).toMatch(/^Input: image: .* has a digest/);
  });

  it.each(['docker-archive:x.tar', 'oci:dir', `sha256:${'b'.repeat(64)}`, 'b'.repeat(64)])(
    'asks for tags with %s',
    (image) => {
      expect(complaint({ image })).toMatch(/^Input: tags: they are missing/);
    },
  );

  it('names the input of a bad reference or platform', () => {
    expect(complaint({ tags: 'a b' })).toMatch(/^Input: tags: "a b" is not an image reference/);
    expect(complaint({ 'cache-from': 'x:?' })).toMatch(/^Input: cache-from: "x:\?" is not an image reference/);
    expect(complaint({ platforms: 'linux' })).toMatch(/^Input: platforms: "linux" is not a platform/);
  });

  it('says why a CA file can not be used', () => {
    expect(complaint({ 'ca-file': join(folder, 'none.pem') })).toMatch(
      /^Input: ca-file: .*none\.pem can't be read: ENOENT/,
    );
    const path = join(folder, 'text.pem');
    writeFileSync(path, 'hello');
    expect(complaint({ 'ca-file': path })).toMatch(
      /^Input: ca-file: .*text\.pem holds no certificate in PEM form \(-----BEGIN/,
    );
  });
});
