import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { rootCertificates } from 'node:tls';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { explainLine } from '../../src/common/error.ts';
import { formatReference } from '../../src/oci/reference.ts';
import { InputError, type RawInputs } from '../../src/push/input-values.ts';
import { type MergeRequest, type PushRequest, parseRequest } from '../../src/push/options.ts';

const surroundings = { workDir: '/somewhere', env: {}, remoteCache: true };
const IMAGE = 'registry.example.com/team/app:1';
const parse = (raw: RawInputs) => parseRequest({ image: IMAGE, ...raw }, surroundings) as PushRequest;
const merge = (raw: RawInputs) => parseRequest(raw, surroundings) as MergeRequest;

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
      kind: 'push',
      images: [{ image: IMAGE }],
      notices: [],
      pushByDigest: false,
      annotations: { manifest: {}, index: {} },
      maxWait: 600_000,
      forceCompression: false,
      tlsVerify: true,
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
      'Input: compression-level: "13" is not a whole number from 1 to 9: write compression-level: 5',
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
    execFileSync('mkfifo', [join(folder, 'fifo.pem')]);
    for (const [path, what] of [
      [join(folder, 'fifo.pem'), 'a FIFO'],
      ['/dev/zero', 'a device'],
      [folder, 'a folder'],
    ] as const)
      expect(complaint({ 'ca-file': path })).toContain(`${path} is ${what}, not a regular file`);
    expect(complaint({ 'ca-file': join(folder, 'none.pem') })).toMatch(
      /^Input: ca-file: .*none\.pem can't be read: ENOENT/,
    );
    const path = join(folder, 'text.pem');
    writeFileSync(path, 'hello');
    expect(complaint({ 'ca-file': path })).toMatch(
      /^Input: ca-file: .*text\.pem holds no certificate in PEM form \(-----BEGIN/,
    );
  });

  it('takes several images, each to its own name, and all of them once', () => {
    const { images, destinations } = parse({ image: 'a.example/x:1\n a.example/y\na.example/x:1' });
    expect(images.map(({ image }) => image)).toEqual(['a.example/x:1', 'a.example/y']);
    expect(destinations.map(formatReference)).toEqual(['a.example/x:1', 'a.example/y:latest']);
  });

  it('refuses several images where one has no name, with tags, and with a fallback that is not all or nothing', () => {
    const image = `${IMAGE}\noci:dir`;
    expect(complaint({ image })).toMatch(/^Input: image: oci:dir has no name to push to/);
    expect(complaint({ image: `${IMAGE}\napp:2`, tags: IMAGE })).toMatch(/^Input: tags: image names 2 images/);
    expect(complaint({ image: `${IMAGE}\napp:2`, fallback: 'engine' })).toMatch(/^Input: fallback: .*several images/);
  });

  it('checks the reference of an image in a registry, and wants tags for it', () => {
    expect(parse({ image: 'docker://a.example/x:1', tags: 'b.example/x:1' }).images[0]?.image).toContain('docker://');
    expect(complaint({ image: 'docker://a.example/x:1' })).toMatch(/^Input: tags: they are missing/);
    expect(complaint({ image: 'docker://a b', tags: IMAGE })).toMatch(/^Input: image: "a b" is not an image reference/);
  });

  it.each([
    ['docker://', /"" is not an image reference.*: write it as docker:\/\/registry\.example\.com\/team\/app:1\.2$/],
    ['docker://x:y:z', /"x:y:z" is not an image reference.*: write it as docker:\/\/registry/],
    ['docker-daemon:app:1', /docker-daemon: is not a source of images here: write for example image: app:1,/],
    ['containers-storage:x', /containers-storage: is not a source.*: write for example image: x,/],
    ['dir:/x', /dir: is not a source of images here: give the name of an image/],
    ['https://a.example/x', /https:\/\/ is not a source.*docker:\/\/REFERENCE/],
    ['DOCKER://a.example/x', /DOCKER:\/\/ is not a source.*docker:\/\/REFERENCE/],
  ])('refuses image: %s with a right example', (image, words) => {
    const line = complaint({ image, tags: IMAGE });
    expect(line).toMatch(/^Input: image: /);
    expect(line).toMatch(words);
  });

  it('takes images that are called like a transport', () => {
    for (const image of ['docker:26-dind', 'dir:latest', 'docker-daemon/x:1'])
      expect(parse({ image, tags: IMAGE }).images[0]?.image).toBe(image);
  });

  it('says that no engine can push an image of a file or a registry', () => {
    for (const image of ['docker://a.example/x:1', 'oci:dir'])
      expect(parse({ image, tags: IMAGE, fallback: 'engine' }).notices).toEqual([
        expect.stringMatching(/^fallback: engine has no effect/),
      ]);
    expect(parse({ image: IMAGE, fallback: 'engine' }).notices).toEqual([]);
  });

  it('drops the tags of repositories that are pushed to by digest, with a notice', () => {
    const { destinations, notices } = parse({
      'push-by-digest': 'true',
      tags: 'a.example/x:1, a.example/x, b.example/x',
    });
    expect(destinations.map(formatReference)).toEqual(['a.example/x', 'b.example/x']);
    expect(notices).toEqual(['push-by-digest: no tag is written; ignored: a.example/x:1']);
    expect(parse({ 'push-by-digest': 'true' }).notices).toEqual([]);
    expect(complaint({ 'push-by-digest': 'true', fallback: 'engine' })).toMatch(/^Input: fallback: .*push-by-digest/);
  });

  it.each([
    ['30s', 30_000],
    ['10m', 600_000],
    ['1h30m', 5_400_000],
    ['1.5s', 1500],
    ['500ms', 500],
    ['0s', 0],
  ])('reads the duration %s', (text, ms) => {
    expect(parse({ 'max-wait': text }).maxWait).toBe(ms);
  });

  it.each(['10', 'm', '10 m', '10m5', '-1s', '1d'])('refuses the duration %s', (text) => {
    expect(complaint({ 'max-wait': text })).toMatch(/^Input: max-wait: .* is not a duration: write max-wait: 10m/);
  });

  it('sorts annotations by their level', () => {
    const annotations = 'a=1\nmanifest:b=x=y\nindex:c=https://example.com/?q=1,2\nmanifest,index:d=';
    expect(parse({ annotations }).annotations).toEqual({
      manifest: { a: '1', b: 'x=y', d: '' },
      index: { c: 'https://example.com/?q=1,2', d: '' },
    });
    expect(complaint({ annotations: '=x' })).toMatch(/^Input: annotations: "=x" is not key=value/);
    expect(complaint({ annotations: 'manifest-descriptor:a=b' })).toMatch(/"manifest-descriptor" is neither/);
    expect(complaint({ annotations: 'manifest[linux/amd64]:a=b' })).toMatch(/"manifest\[linux\/amd64\]" is neither/);
  });
});

describe('parseRequest of a merge', () => {
  const tags = 'a.example/x:1\na.example/x:latest';

  it('takes references and beginnings of tags', () => {
    const { kind, parts, cleanup, destinations } = merge({
      merge: 'a.example/x:arm64\na.example/y:run-7-*',
      'merge-cleanup': 'true',
      tags,
    });
    expect({ kind, cleanup }).toEqual({ kind: 'merge', cleanup: true });
    expect(destinations.map(formatReference)).toEqual(['a.example/x:1', 'a.example/x:latest']);
    expect(parts).toMatchObject([
      { text: 'a.example/x:arm64', reference: { repository: 'x', tag: 'arm64' } },
      { text: 'a.example/y:run-7-*', reference: { repository: 'y' }, tagPrefix: 'run-7-' },
    ]);
    expect(parts[1]?.reference.tag).toBeUndefined();
  });

  const refused = (raw: RawInputs): string => complaint({ image: '', ...raw });

  it('reports what a merge does not use', () => {
    const inputs = { merge: IMAGE, tags: IMAGE };
    expect(merge({ ...inputs, 'force-compression': 'true' }).notices.join()).toContain(
      'force-compression: a merge takes',
    );
    expect(merge(inputs).notices).toEqual([]);
  });

  it('refuses what can not be one', () => {
    expect(refused({ image: IMAGE, merge: IMAGE, tags })).toMatch(/^Input: merge: image is set too/);
    expect(refused({ merge: IMAGE })).toMatch(/^Input: tags: they are missing, and merge needs them/);
    expect(refused({ merge: 'b.example/x:1', tags })).toMatch(
      /^Input: merge: b.example\/x:1 is in b.example, and no tag/,
    );
    expect(refused({ merge: 'a.example/x:2', tags: `${tags}\nb.example/x:1` })).toMatch(
      /^Input: tags: b.example\/x:1 is in another registry than every reference of merge/,
    );
    for (const text of ['a.example/x:*', 'a.example/*', 'a.example/x:a*b', 'a.example/x*', 'a.example/x:a-**'])
      expect(refused({ merge: text, tags })).toMatch(/^Input: merge: .* a \* can only be the end of a tag: write/);
    expect(refused({ merge: 'a.example/x:2', tags, 'push-by-digest': 'true' })).toMatch(/^Input: push-by-digest: /);
    expect(refused({ merge: 'a.example/x:2', tags, fallback: 'engine' })).toMatch(/^Input: fallback: no engine/);
    expect(complaint({ 'merge-cleanup': 'true' })).toMatch(/^Input: merge-cleanup: there is no merge/);
  });

  it('takes annotations for its index alone', () => {
    const tags = 'a.example/x:1';
    const read = (annotations: string) => merge({ merge: 'a.example/x:2', tags, annotations }).annotations.index;
    expect(read('a=1\nindex:b=2\nmanifest,index:c=3')).toEqual({ a: '1', b: '2', c: '3' });
    expect(() => read('index:a=1\nmanifest:b=2')).toThrow(
      /^annotations: manifest:b can't be set by a merge, which takes the manifests of its parts byte for byte$/,
    );
  });
});
