/** The lines of the layer cache in TROUBLESHOOTING.md, provoked for real. */
import { mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type CacheServer, startCacheServer } from '../support/cache-server.ts';
import { type Registry, startRegistry } from '../support/registry/server.ts';
import { type ActionRun, freshRunner, type Runner, runAction } from '../support/runner.ts';

interface Image {
  /** `docker-archive:` of a small image. */
  readonly image: string;
}

interface Job {
  readonly main: ActionRun;
  readonly post: ActionRun;
}

interface JobOptions {
  readonly cache?: CacheServer;
  /** Those that are kept for the next job; fresh ones unless told. */
  readonly runner?: Runner;
  readonly registry?: Registry;
  /** Called with the main step's state before the post step. */
  readonly between?: (state: ActionRun['state']) => void;
}

/** A job that pushes an image to an empty registry, and its post step. */
async function job({ image }: Image, options: JobOptions): Promise<Job> {
  const runner = options.runner ?? freshRunner();
  const registry = options.registry ?? (await startRegistry());
  await registry.reset();
  const inputs = { image, tags: `${registry.host}/team/app:1`, 'cache-from': `${registry.host}/none:none` };
  const env = options.cache?.env ?? {};
  try {
    const main = await runAction({ inputs, env, runner });
    options.between?.(main.state);
    return { main, post: await runAction({ entry: 'post', state: main.state, env, runner }) };
  } finally {
    if (options.registry === undefined) await registry.close();
    if (options.runner === undefined) runner.remove();
  }
}

/** The first line about the cache that tells of trouble. */
const lineOf = ({ main, post }: Job): string => {
  if (main.exitCode !== 0) return main.errors[0] ?? 'the push failed';
  const lines = `${main.log}\n${post.log}`.split('\n').filter((line) => line.startsWith('layer cache: '));
  return lines.find((line) => !line.startsWith('layer cache: saved')) ?? 'no line';
};

/** What a job says when the entries of an earlier one, by a part of their keys, have become garbage. */
async function afterDamage(image: Image, part: string): Promise<string> {
  const [cache, registry] = await Promise.all([startCacheServer(), startRegistry()]);
  try {
    await job(image, { cache, registry });
    for (const { key } of cache.entries().filter((entry) => entry.key.includes(part)))
      await cache.replace(key, Buffer.alloc(50_000, 7));
    return lineOf(await job(image, { cache, registry }));
  } finally {
    await Promise.all([cache.close(), registry.close()]);
  }
}

async function whileFailing(image: Image, failures: CacheServer['failures']): Promise<string> {
  const cache = await startCacheServer();
  Object.assign(cache.failures, failures);
  try {
    return lineOf(await job(image, { cache }));
  } finally {
    await cache.close();
  }
}

/** By a name for the test; each resolves to the line of the log. */
export const CACHE_TROUBLES: Readonly<Record<string, (image: Image) => Promise<string>>> = {
  'a cache service that refuses': (image) => whileFailing(image, { lookup: 'unreadable' }),
  'a cache that may only be read': (image) => whileFailing(image, { create: 'read-only' }),
  'a cached layer that is damaged': (image) => afterDamage(image, 'layer'),
  'a list of known layers that is damaged': (image) => afterDamage(image, 'pointers'),
  'a folder of the cache that is changed by a later step': async (image) => {
    const cache = await startCacheServer();
    // What the post step makes its own folder of.
    const between = (state: ActionRun['state']) => {
      const { workspace } = JSON.parse(Object.values(state)[0] ?? '') as { workspace: string };
      writeFileSync(workspace, 'a file');
    };
    const line = lineOf(await job(image, { cache, between }));
    await cache.close();
    return line;
  },
  'notes that can not be written': async (image) => {
    const runner = freshRunner();
    await job(image, { runner });
    const root = join(runner.temp, 'chunked-push/v1');
    for (const format of readdirSync(root)) {
      for (const note of readdirSync(join(root, format, 'known'))) {
        const path = join(root, format, 'known', note);
        rmSync(path);
        mkdirSync(path);
      }
    }
    const line = lineOf(await job(image, { runner }));
    runner.remove();
    return line;
  },
};
