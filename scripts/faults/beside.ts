/** What other tools make of the same step under the same fault, beside ours, on the same registry. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { KINDS } from '../../__tests__/faults/kinds.ts';
import { startFaultProxy } from '../../__tests__/support/fault-proxy/proxy.ts';
import type { FaultRule } from '../../__tests__/support/fault-proxy/rules.ts';
import { loadImage, writeDockerArchive } from '../../__tests__/support/images.ts';
import { startDocker } from '../../__tests__/support/real/docker.ts';
import { commandOf } from '../../__tests__/support/real/parts.ts';
import { startRegistry } from '../../__tests__/support/registry/server.ts';
import { setupTools } from '../bench/tools.ts';
import { bytesOfImage, NAME, type Tool, toolsFor } from './tools.ts';

export interface BesideRun {
  readonly step: string;
  readonly fault: string;
  readonly tool: string;
  /** Bytes sent again; `failed`; `hangs` for no end within half a minute; `unmet` when the tool never sends this request. */
  readonly end: number | 'failed' | 'hangs' | 'unmet';
  readonly seconds: number;
}

/** The requests that every tool sends; of the blobs, the first one that comes. */
const STEPS: Readonly<Record<string, FaultRule['step']>> = {
  'HEAD blob': 'blob-head',
  POST: ['upload-post', 'upload-mount'],
  'PATCH, first': 'upload-patch',
  'PUT, closing': 'upload-put',
  'PUT manifest': 'manifest-put',
};

const FAULTS = KINDS.filter(
  ({ times, needs, name }) => times === 'once' && needs !== 'credentials' && needs !== 'session' && name !== 'slow',
);

/** Those of them that have a body to cut. */
const HAS_BODY: ReadonlySet<string> = new Set(['PATCH, first', 'PUT manifest']);

/** Bytes; three chunks. */
const LAYER = 300_000;
const CHUNK = '131072';

/** ms */
const PATIENCE = 30_000;

/** Pushes under way at once: most of them wait. */
const AT_ONCE = 8;

interface Push {
  readonly step: string;
  readonly kind: (typeof FAULTS)[number];
  readonly name: string;
  readonly tool: Tool;
}

async function measure({ step, kind, name, tool }: Push, url: string, repository: string): Promise<BesideRun> {
  const proxy = await startFaultProxy({ target: url });
  const rule = proxy.faults.add({ step: STEPS[step]!, fault: kind.fault() });
  const started = performance.now();
  let timer: NodeJS.Timeout | undefined;
  const patience = new Promise<'hangs'>((resolve) => {
    timer = setTimeout(() => resolve('hangs'), PATIENCE);
  });
  try {
    const ended = await Promise.race([tool(`${proxy.host}/${repository}:1`), patience]);
    const seconds = (performance.now() - started) / 1000;
    const run = { step, fault: kind.name, tool: name, seconds };
    if (ended === 'hangs') return { ...run, end: 'hangs' };
    if (ended.failed !== undefined && rule.hits === 0)
      throw new Error(`${name} failed without a fault: ${ended.failed}`);
    const size = (await bytesOfImage(url, repository))?.all;
    if (ended.failed !== undefined || size === undefined) return { ...run, end: 'failed' };
    return { ...run, end: rule.hits === 0 ? 'unmet' : Math.max(0, proxy.stats.bodyBytes - size) };
  } finally {
    clearTimeout(timer);
    // What still hangs ends with its connection.
    await proxy.close();
  }
}

/** Pushes a small image by every tool under every fault at every step. */
export async function measureBeside(onRun: (run: BesideRun) => void): Promise<BesideRun[]> {
  await setupTools();
  const folder = mkdtempSync(join(tmpdir(), 'chunked-push-faults-'));
  const engine = await startDocker({ version: 'debian', store: 'overlay2' });
  const registry = await startRegistry({ profile: 'distribution3' });
  try {
    const recipe = { seed: 'beside', layers: [{ bytes: LAYER, content: 'random' as const }] };
    const archive = join(folder, 'image.tar');
    await writeDockerArchive(archive, NAME, recipe);
    await loadImage({ command: commandOf('docker', 'docker'), env: engine.env }, NAME, recipe);
    const tools = Object.entries(toolsFor(archive, engine, CHUNK));
    const pushes = Object.keys(STEPS).flatMap((step) => {
      const kinds = FAULTS.filter(({ needs }) => needs !== 'body' || HAS_BODY.has(step));
      return kinds.flatMap((kind) => tools.map(([name, tool]): Push => ({ step, kind, name, tool })));
    });
    const queue = [...pushes.entries()];
    const runs: BesideRun[] = [];
    const work = async (): Promise<void> => {
      for (let next = queue.shift(); next !== undefined; next = queue.shift()) {
        const run = await measure(next[1], registry.url, `beside/r${next[0]}`);
        runs[next[0]] = run;
        onRun(run);
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, work));
    return runs;
  } finally {
    await registry.close();
    await engine.stop();
    rmSync(folder, { recursive: true, force: true });
  }
}
