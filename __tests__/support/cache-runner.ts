/** Runners as the layer cache sees them: folders of their own beside one cache service; and layers to put into it. */
import { randomBytes } from 'node:crypto';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { onTestFinished, vi } from 'vitest';
import { LayerCache, type LayerCacheOptions, type RecordedLayer } from '../../src/cache/layer-cache.ts';
import { type Descriptor, type Digest, digestOf } from '../../src/oci/types.ts';
import type { CacheServer } from './cache-server.ts';

export const REPOSITORY = 'registry.example.com/team/app';

/** A compressed layer: `plain` bytes that do not shrink. */
export interface TestLayer {
  readonly diffId: Digest;
  readonly descriptor: Descriptor;
  readonly blob: Buffer;
}

export function testLayer(bytes = 100_000, compression: 'gzip' | 'zstd' = 'gzip'): TestLayer {
  const plain = randomBytes(bytes);
  const blob = compression === 'gzip' ? gzipSync(plain, { level: 1 }) : zstdCompressSync(plain);
  const mediaType = `application/vnd.oci.image.layer.v1.tar+${compression}`;
  return { diffId: digestOf(plain), descriptor: { mediaType, digest: digestOf(blob), size: blob.length }, blob };
}

/** What a push's log said, by level. */
export class TestLog {
  readonly lines: string[] = [];
  readonly details: string[] = [];
  readonly info = (line: string) => void this.lines.push(line);
  readonly debug = (line: string) => void this.details.push(line);
}

export interface TestRunner {
  readonly temp: string;
  readonly log: TestLog;
  open(options?: Partial<LayerCacheOptions>): Promise<LayerCache>;
  /** Puts a layer where a push would have put it, for `record`. */
  made(cache: LayerCache, layer: TestLayer, secondsToMake?: number): Promise<RecordedLayer>;
}

/** A fresh runner: a new RUNNER_TEMP, HOME and GITHUB_WORKSPACE in this process's environment, and the service's variables, if any. */
export async function freshRunner(server?: CacheServer): Promise<TestRunner & AsyncDisposable> {
  const runner = await makeRunner(server);
  onTestFinished(() => runner[Symbol.asyncDispose]());
  return runner;
}

/** As `freshRunner`, for use outside a test: whoever makes it disposes of it. */
export async function makeRunner(server?: CacheServer): Promise<TestRunner & AsyncDisposable> {
  const root = await mkdtemp(join(tmpdir(), 'cache-runner-'));
  const temp = join(root, '_temp');
  await mkdir(temp);
  const bare = {
    ACTIONS_CACHE_SERVICE_V2: '',
    ACTIONS_RESULTS_URL: '',
    ACTIONS_CACHE_URL: '',
    ACTIONS_RUNTIME_TOKEN: '',
  };
  const env = {
    ...bare,
    RUNNER_TEMP: temp,
    HOME: join(root, 'home'),
    GITHUB_WORKSPACE: join(root, 'work'),
    ...server?.env,
  };
  for (const [name, value] of Object.entries(env)) vi.stubEnv(name, value);
  const log = new TestLog();
  const caches: LayerCache[] = [];
  const open = async (options: Partial<LayerCacheOptions> = {}) => {
    const cache = new LayerCache({ ...defaults(temp, log), ...options });
    caches.push(cache);
    return cache;
  };
  const dispose = async () => {
    vi.unstubAllEnvs();
    await Promise.all(caches.map((cache) => cache.close()));
    await rm(root, { recursive: true, force: true, maxRetries: 5 });
  };
  return { temp, log, open, made, [Symbol.asyncDispose]: dispose };
}

function defaults(temp: string, log: TestLog): LayerCacheOptions {
  return {
    dir: join(temp, 'chunked-push'),
    compression: 'gzip',
    level: 1,
    repositories: [REPOSITORY],
    remote: true,
    maxSize: 2 ** 31,
    concurrency: 5,
    log,
    signal: new AbortController().signal,
  };
}

async function made(cache: LayerCache, layer: TestLayer, secondsToMake = 1): Promise<RecordedLayer> {
  const path = cache.layerPath(layer.diffId);
  await mkdir(dirname(path), { recursive: true });
  await writeFile(path, layer.blob);
  return { diffId: layer.diffId, descriptor: layer.descriptor, path, secondsToMake };
}
