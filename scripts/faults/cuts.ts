/** Cuts at random places of one layer, for us and for the tools that users would run instead. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { cutAfter } from '../../__tests__/support/fault-proxy/faults.ts';
import { type FaultProxy, startFaultProxy } from '../../__tests__/support/fault-proxy/proxy.ts';
import type { SeenRequest } from '../../__tests__/support/fault-proxy/rules.ts';
import { type ImageRecipe, loadImage, writeDockerArchive } from '../../__tests__/support/images.ts';
import { randomFrom } from '../../__tests__/support/random.ts';
import { startDocker } from '../../__tests__/support/real/docker.ts';
import { commandOf } from '../../__tests__/support/real/parts.ts';
import { run } from '../../__tests__/support/real/processes.ts';
import { startDockerRegistry } from '../../__tests__/support/real/registry.ts';
import { startRegistry } from '../../__tests__/support/registry/server.ts';
import { digestOf } from '../../src/oci/types.ts';
import { setupTools, skopeo } from '../bench/tools.ts';
import { bytesOfImage, NAME, type Tool, toolsFor } from './tools.ts';

/** One push of one tool. */
export interface CutRun {
  readonly tool: string;
  readonly registry: string;
  readonly cuts: number;
  /** Those that happened: a tool that gives up does not meet the later ones. */
  readonly made: number;
  readonly seconds: number;
  /** Bytes of request bodies that reached the registry. */
  readonly sent: number;
  /** Those beyond the image's blobs and manifest; undefined when the push failed. */
  readonly resent: number | undefined;
  readonly failed?: string;
}

/** Smaller bodies are not the layer's. */
const LEAST_LAYER_BODY = 1_000_000;

/** Cuts the layer's upload once at each of these offsets of the layer, in their order, one a request, wherever that begins. */
export function cutAt(proxy: FaultProxy, offsets: readonly number[]): () => number {
  let next = 0;
  let into = 0;
  const where = ({ range, length }: SeenRequest): boolean => {
    const offset = offsets[next];
    if (offset === undefined || (length > 0 && length < LEAST_LAYER_BODY)) return false;
    const start = range?.start ?? 0;
    const end = length === 0 ? Number.POSITIVE_INFINITY : start + length;
    if (offset < start || offset >= end) return false;
    into = offset - start;
    next += 1;
    return true;
  };
  proxy.faults.add({
    step: ['upload-patch', 'upload-put'],
    where,
    times: Number.POSITIVE_INFINITY,
    // Asked for after `where`: only then is known how far into the body the offset lies.
    get fault() {
      return cutAfter(into);
    },
  });
  return () => next;
}

const REPOSITORY = 'faults/app';
/**
 * Puts the image's config where the push goes, so that the layer is all that is left to upload: some tools send both at once, and
 * neither says how long it is.
 */
async function putConfig(url: string, config: string): Promise<void> {
  const opened = await fetch(`${url}/v2/${REPOSITORY}/blobs/uploads/`, { method: 'POST' });
  const location = new URL(opened.headers.get('location') ?? '', url);
  location.searchParams.set('digest', digestOf(Buffer.from(config)));
  const closed = await fetch(location, { method: 'PUT', body: config });
  if (closed.status !== 201) throw new Error(`the config could not be put: ${closed.status} ${await closed.text()}`);
}

interface Place {
  readonly url: string;
  stop(): Promise<void>;
}

/** It takes back the whole chunk that broke. Other tools' single requests are too large for it at any time, so only we go there. */
const SERVERLESS = 'a registry that takes a broken chunk back (profile serverless)';

const REGISTRIES: Readonly<Record<string, () => Promise<Place>>> = {
  'a registry that can go on (profile distribution3)': async () => {
    const registry = await startRegistry({ profile: 'distribution3' });
    return { url: registry.url, stop: registry.close };
  },
  [SERVERLESS]: async () => {
    const registry = await startRegistry({ profile: 'serverless' });
    return { url: registry.url, stop: registry.close };
  },
  'docker-registry 2.8': async () => {
    const registry = await startDockerRegistry();
    return { url: `http://${registry.host}`, stop: registry.stop };
  },
};

interface Attempt {
  readonly name: string;
  readonly tool: Tool;
  readonly registry: string;
  readonly offsets: readonly number[];
  readonly config: string;
}

async function measure({ name, tool, registry, offsets, config }: Attempt): Promise<CutRun> {
  const place = await REGISTRIES[registry]!();
  await putConfig(place.url, config);
  const proxy = await startFaultProxy({ target: place.url });
  const made = cutAt(proxy, offsets);
  try {
    const { seconds, failed } = await tool(`${proxy.host}/${REPOSITORY}:1`);
    const size = failed === undefined ? (await bytesOfImage(place.url, REPOSITORY))?.withoutConfig : undefined;
    const sent = proxy.stats.bodyBytes;
    const resent = size === undefined ? undefined : Math.max(0, sent - size);
    return {
      tool: name,
      registry,
      cuts: offsets.length,
      made: made(),
      seconds,
      sent,
      resent,
      ...(failed && { failed }),
    };
  } finally {
    await proxy.close();
    await place.stop();
  }
}

/** Seeds the places of the cuts. */
const SEED = 11;

/** So many places of a layer, in their order. */
export function placesIn(bytes: number, cuts: number): number[] {
  const random = randomFrom(SEED);
  return Array.from({ length: cuts }, () => Math.floor(random() * bytes)).sort((one, other) => one - other);
}

export interface CutOptions {
  readonly layerBytes: number;
  readonly chunkSize: string;
  /** How many cuts each tool meets, and how many we meet beyond that. */
  readonly cuts: readonly number[];
}

/** Pushes the same image by every tool into every registry, under the same cuts. */
export async function measureCuts(options: CutOptions, onRun: (run: CutRun) => void): Promise<CutRun[]> {
  await setupTools();
  const folder = mkdtempSync(join(tmpdir(), 'chunked-push-faults-'));
  const engine = await startDocker({ version: 'debian', store: 'overlay2' });
  const runs: CutRun[] = [];
  try {
    const recipe: ImageRecipe = { seed: 'faults', layers: [{ bytes: options.layerBytes, content: 'random' }] };
    const archive = join(folder, 'image.tar');
    await writeDockerArchive(archive, NAME, recipe);
    await loadImage({ command: commandOf('docker', 'docker'), env: engine.env }, NAME, recipe);
    const [program = '', ...args] = skopeo();
    const config = await run(program, [...args, 'inspect', '--config', '--raw', `docker-archive:${archive}`]);
    const tools = Object.entries(toolsFor(archive, engine, options.chunkSize));
    for (const [index, cuts] of options.cuts.entries()) {
      for (const registry of Object.keys(REGISTRIES)) {
        for (const [name, tool] of index === 0 && registry !== SERVERLESS ? tools : tools.slice(0, 1)) {
          const measured = await measure({ name, tool, registry, offsets: placesIn(options.layerBytes, cuts), config });
          runs.push(measured);
          onRun(measured);
        }
      }
    }
    return runs;
  } finally {
    await engine.stop();
    rmSync(folder, { recursive: true, force: true });
  }
}
