/** The inputs on their way from the runner's variables to a request. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { rootCertificates } from 'node:tls';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { parse } from 'yaml';
import { readRequest } from '../../src/action/run.ts';
import { explainLine } from '../../src/common/error.ts';
import { InputError } from '../../src/push/input-values.ts';
import { type PushRequest, parseRequest } from '../../src/push/options.ts';

interface Metadata {
  readonly inputs: Readonly<Record<string, { readonly default?: string; readonly required?: boolean }>>;
}

const { inputs: DECLARED } = parse(readFileSync(new URL('../../action.yml', import.meta.url), 'utf8')) as Metadata;
const IMAGE = 'registry.example.com/team/app:1';
const DIGEST = `sha256:${'a'.repeat(64)}`;

type Inputs = Readonly<Record<string, string>>;

/** As the runner sets them: every declared input, with its default or empty. */
const variables = (inputs: Inputs): Record<string, string> =>
  Object.fromEntries(
    Object.entries({
      ...Object.fromEntries(Object.keys(DECLARED).map((name) => [name, DECLARED[name]?.default ?? ''])),
      ...inputs,
    }).map(([name, value]) => [`INPUT_${name.toUpperCase()}`, value]),
  );

/** The request for these inputs, from the variables of this process. Throws InputError. */
function read(inputs: Inputs, env: Inputs = {}): PushRequest {
  for (const [name, value] of Object.entries({ ...variables({ image: IMAGE, ...inputs }), ...env }))
    vi.stubEnv(name, value);
  return readRequest() as PushRequest;
}

/** What is said of inputs that can't be used. */
function complaint(inputs: Inputs): string {
  try {
    read(inputs);
  } catch (error) {
    expect(error).toBeInstanceOf(InputError);
    return explainLine(error);
  }
  return '';
}

afterEach(() => vi.unstubAllEnvs());

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'inputs-test-'));
});
afterAll(() => rmSync(folder, { recursive: true }));

describe('inputs that can be used', () => {
  it('the defaults of action.yml are those of a request of which only the image is known', () => {
    const { env: _, workDir, ...request } = read({});
    expect(request).toEqual(
      omit(parseRequest({ image: IMAGE }, { env: {}, workDir, remoteCache: true }) as PushRequest),
    );
    expect(request).toMatchObject({ images: [{ image: IMAGE }], chunkSize: 'auto', fallback: 'none' });
  });

  it('each input of action.yml reaches the request', () => {
    const ca = join(folder, 'ca.pem');
    writeFileSync(ca, rootCertificates[0]!);
    const given: Inputs = {
      image: 'team/app:2',
      tags: `${IMAGE}\nregistry.example.com/team/app:2`,
      username: 'me',
      password: 'secret',
      engine: 'podman',
      export: 'store',
      platforms: 'linux/amd64,linux/arm64',
      'chunk-size': '5MiB',
      concurrency: '7',
      'max-retries': '9',
      'max-wait': '90s',
      annotations: 'index:a=1',
      'force-compression': 'true',
      'tls-verify': 'false',
      compression: 'zstd',
      'compression-level': '11',
      cache: 'false',
      'cache-from': 'registry.example.com/team/app:main',
      'cache-max-size': '1GB',
      fallback: 'engine',
      insecure: 'true',
      'ca-file': ca,
      'dry-run': 'true',
    };
    const others = ['merge', 'merge-cleanup', 'push-by-digest'];
    expect([...Object.keys(given), ...others].sort()).toEqual(Object.keys(DECLARED).sort());
    const plain = read({}) as unknown as Record<string, unknown>;
    const request = read(given);
    expect(request).toMatchObject({
      images: [{ image: 'team/app:2' }],
      destinations: [{ tag: '1' }, { tag: '2' }],
      credentials: { username: 'me', password: 'secret' },
      engine: 'podman',
      export: 'store',
      platforms: ['linux/amd64', 'linux/arm64'],
      chunkSize: 5_242_880,
      concurrency: 7,
      maxRetries: 9,
      maxWait: 90_000,
      annotations: { index: { a: '1' } },
      forceCompression: true,
      tlsVerify: false,
      compression: 'zstd',
      compressionLevel: 11,
      cache: false,
      cacheFrom: [{ tag: 'main' }],
      cacheMaxSize: 1_000_000_000,
      fallback: 'engine',
      insecure: true,
      ca: expect.stringContaining('BEGIN CERTIFICATE'),
      dryRun: true,
    });
    // Nothing but what surrounds the inputs is as it was: an input that is dropped would be.
    const same = Object.entries(omit(request)).filter(
      ([name, value]) => JSON.stringify(plain[name]) === JSON.stringify(value),
    );
    expect(same.map(([name]) => name).sort()).toEqual(['kind', 'notices', 'pushByDigest', 'remoteCache']);
    expect(read({ 'push-by-digest': 'true' })).toMatchObject({ pushByDigest: true });
    expect(read({ image: '', merge: IMAGE, tags: IMAGE, 'merge-cleanup': 'true' })).toMatchObject({
      kind: 'merge',
      parts: [{ text: IMAGE }],
      cleanup: true,
    });
  });

  it('white space around them is the workflow’s, a password’s is its own but for one line break at its end', () => {
    const request = read({ engine: ' podman\n', username: ' me ', password: ' p w\n', 'chunk-size': '\t10MB ' });
    expect(request).toMatchObject({
      engine: 'podman',
      chunkSize: 10_000_000,
      credentials: { username: 'me', password: ' p w' },
    });
  });

  it('secrets are read once: neither this environment nor that of children has them afterwards', () => {
    const request = read(
      { username: 'me', password: 'hunter2' },
      { ACTIONS_RUNTIME_TOKEN: 'hunter3', ACTIONS_ID_TOKEN_REQUEST_TOKEN: 'hunter4', AWS_PROFILE: 'team' },
    );
    expect(request.credentials).toEqual({ username: 'me', password: 'hunter2' });
    expect(JSON.stringify(process.env)).not.toContain('hunter2');
    expect(JSON.stringify(request.env)).not.toMatch(/hunter|INPUT_/);
    // What a credential helper needs is still there.
    expect(request.env.AWS_PROFILE).toBe('team');
  });

  it('the folder is the same in every run: the Actions cache keeps files under their paths', () => {
    expect(read({}, { RUNNER_TEMP: '/runner/_temp' }).workDir).toBe('/runner/_temp/chunked-push');
    // Outside of a runner.
    expect(read({}, { TMPDIR: '/a/tmp', RUNNER_TEMP: '' }).workDir).toBe('/a/tmp/chunked-push');
  });
});

/** A request without what surrounds the inputs. */
const omit = ({ env: _, workDir: __, ...inputs }: PushRequest) => inputs;

/** Each with the input to blame, what is said of it, and what else is given. */
const WRONG: [input: string, value: string, problem: RegExp, others?: Inputs][] = [
  ['image', '', /it is missing/],
  ['image', 'Team App', /"Team App" is not an image reference: it has a space/],
  ['image', `registry.example.com/team/app@${DIGEST}`, /has a digest/],
  ['merge', 'registry.example.com/*/app:1', /a \* can only be the end of a tag/, { image: '', tags: IMAGE }],
  ['merge-cleanup', 'on', /"on" is neither true nor false/, { image: '', merge: IMAGE, tags: IMAGE }],
  ['annotations', 'vendor', /"vendor" is not key=value/],
  ['annotations', 'layer:a=b', /"layer" is neither manifest nor index/],
  ['push-by-digest', 'no', /"no" is neither true nor false/],
  ['tags', 'https://registry.example.com/team/app:1', /is not an image reference: it is a URL/],
  ['tags', `registry.example.com/team/app:1@${DIGEST}`, /has a digest, and a digest can't be pushed to/],
  ['tags', '', /they are missing, and oci:folder has no name to push to/, { image: 'oci:folder' }],
  ['username', '', /it is empty though password is set/, { password: 'p' }],
  ['password', '', /it is empty though username is set/, { username: 'me' }],
  ['engine', 'containerd', /"containerd" is not one of auto, docker, podman/],
  ['export', 'tar', /"tar" is not one of auto, save, store/],
  ['platforms', 'linux/amd64,arm64', /"arm64" is not a platform/],
  ['chunk-size', '95 MByte', /"95 MByte" is not a size/],
  ['chunk-size', '1e9', /"1e9" is not a size/],
  ['chunk-size', '99999999999999999', /"99999999999999999" is not a size/],
  ['concurrency', '65', /"65" is not a whole number from 1 to 64/],
  ['max-retries', '-1', /"-1" is not a whole number from 0 to 100/],
  ['max-wait', '600', /"600" is not a duration/],
  ['max-wait', '999h', /"999h" is longer than 24 days/],
  ['compression', 'xz', /"xz" is not one of gzip, zstd/],
  ['compression-level', '20', /"20" is not a whole number from 1 to 19/, { compression: 'zstd' }],
  ['compression-level', '0', /"0" is not a whole number from 1 to 9/],
  ['force-compression', 'zstd', /"zstd" is neither true nor false/],
  ['cache', 'on', /"on" is neither true nor false/],
  ['cache-from', 'registry.example.com/team/app:main stable', /is not an image reference/],
  ['cache-max-size', 'unlimited', /"unlimited" is not a size/],
  ['fallback', 'docker', /"docker" is not one of none, engine/],
  ['insecure', '1', /"1" is neither true nor false/],
  ['ca-file', '/nowhere/ca.pem', /\/nowhere\/ca\.pem can't be read: ENOENT/],
  ['tls-verify', 'off', /"off" is neither true nor false/],
  ['dry-run', 'yes', /"yes" is neither true nor false/],
];

/** `write concurrency: 5`, `… as linux/amd64 or …`, `…: registry.example.com/team/app:1.2`: the value that an error proposes. */
const PROPOSALS: readonly RegExp[] = [
  /write (?:for example )?[a-z-]+: ([^\s,]+)/,
  /write it as ([^\s,]+)/,
  /: (registry\.example\.com\/\S+)/,
  /like ([a-z]\S*\/\S+)/,
];

const proposal = (remedy: string): string | undefined =>
  PROPOSALS.map((form) => form.exec(remedy)?.[1]).find((found) => found !== undefined);

describe('inputs that can not be used', () => {
  it('are met for every input of action.yml', () => {
    expect([...new Set(WRONG.map(([name]) => name))].sort()).toEqual(Object.keys(DECLARED).sort());
  });

  it.each(WRONG)('%s: %j: one line with its name, the problem and a remedy', (name, value, problem, others = {}) => {
    const line = complaint({ ...others, [name]: value });
    expect(line.startsWith(`Input: ${name}: `)).toBe(true);
    expect(line).not.toContain('\n');
    expect(line).toMatch(problem);
    const remedy = line.slice((problem.exec(line)?.index ?? 0) + (problem.exec(line)?.[0].length ?? 0));
    expect(remedy).toMatch(/\b(write|set|name)\b.{10,}/);
  });

  const withProposal = WRONG.filter(([name]) => !['username', 'password', 'ca-file'].includes(name));
  it.each(withProposal)('%s: %j: what is proposed is taken', (name, value, _, others = {}) => {
    const line = complaint({ ...others, [name]: value });
    const proposed = proposal(line);
    expect(proposed, line).toBeDefined();
    expect(complaint({ ...others, [name]: proposed! })).toBe('');
  });

  it('a secret is not in the line about it', () => {
    expect(complaint({ password: 'hunter2' })).toMatch(/^Input: username: (?!.*hunter2)/);
  });

  it('of several the first is told, once', () => {
    const line = complaint({ engine: 'rkt', concurrency: 'all', cache: 'maybe' });
    expect(line.match(/Input: /g)).toHaveLength(1);
    expect(line).toContain('Input: engine: ');
  });
});
