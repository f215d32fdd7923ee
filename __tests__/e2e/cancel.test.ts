import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { startFaultProxy } from '../support/fault-proxy/proxy.ts';
import { type ImageRecipe, writeDockerArchive } from '../support/images.ts';
import { startDockerRegistry } from '../support/real/registry.ts';
import { describeWith } from '../support/real/suite.ts';
import { startRegistry } from '../support/registry/server.ts';
import { type ActionRun, freshRunner, type Runner, runAction } from '../support/runner.ts';
import { ENGINES, type EngineWithImage } from './engine-images.ts';

/** Ten layers that do not shrink, so that ten uploads are under way at once. */
const RECIPE: ImageRecipe = {
  seed: 'cancel',
  layers: Array.from({ length: 10 }, () => ({ bytes: 4_000_000, content: 'random' as const })),
};
const IMAGE = 'e2e.example/cancel/app:1';
/** 40 MB at this rate (bytes a second) take 20 s: long enough to be ended in the middle. */
const BANDWIDTH = 2_000_000;

/** Files below a folder, as paths. */
const filesBelow = (folder: string): readonly string[] =>
  existsSync(folder)
    ? readdirSync(folder, { recursive: true, withFileTypes: true })
        .filter((entry) => !entry.isDirectory())
        .map((entry) => join(entry.parentPath, entry.name))
    : [];

/** Command lines of all processes that mention a text. */
const processesWith = (text: string): readonly string[] =>
  readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map((pid) => {
      try {
        return readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ');
      } catch {
        return '';
      }
    })
    .filter((line) => line.includes(text));

/** A registry as this test sees it: where it is, and which upload sessions it has open. */
interface Witness {
  readonly host: string;
  openUploads(): readonly string[];
  manifests(): readonly string[];
  /** Sessions whose deletion the registry itself refuses, because the bytes of a request broke off: not ours to clean. */
  undeletable(): readonly string[];
  stop(): Promise<void>;
}

const embedded = async (profile: 'plain' | 'serverless'): Promise<Witness> => {
  const registry = await startRegistry({ profile, minChunk: 1_000_000 });
  const deleted = () => registry.requests.filter(({ step }) => step === 'upload-delete').length;
  return {
    host: registry.host,
    openUploads: () =>
      Array.from({ length: registry.openSessions() }, (_, index) => `session ${index} (deleted: ${deleted()})`),
    manifests: () => registry.tags('cancel/app'),
    undeletable: () => [],
    stop: registry.close,
  };
};

/** Distribution 2.8 answers 404 to everything about a session whose PATCH broke off, DELETE included; it purges them itself. */
const real = async (): Promise<Witness> => {
  const registry = await startDockerRegistry();
  const refused = / "DELETE \/v2\/cancel\/app\/blobs\/uploads\/([0-9a-f-]+)\?[^"]*" 404 /g;
  const undeletable = () => [...registry.log().matchAll(refused)].map(([, id]) => `cancel/app/${id}`);
  return { ...registry, undeletable };
};

const REGISTRIES: Readonly<Record<string, () => Promise<Witness>>> = {
  'docker-registry': real,
  'a registry by the book': () => embedded('plain'),
  'a serverless registry': () => embedded('serverless'),
};

describeWith(['docker', 'docker-registry'], 'a push that is cancelled', () => {
  let folder: string;
  let runner: Runner;
  let engine: EngineWithImage;

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'chunked-push-cancel-'));
    await writeDockerArchive(join(folder, 'image.tar'), IMAGE, RECIPE);
    engine = await ENGINES[0]!.start(IMAGE, RECIPE);
  });

  beforeEach(() => {
    runner = freshRunner();
  });

  afterEach(() => runner.remove());

  afterAll(async () => {
    await engine?.stop();
    rmSync(folder, { recursive: true });
  });

  interface Cancelled {
    readonly run: ActionRun;
    /** Upload sessions that were open shortly before the signal. */
    readonly open: number;
  }

  /** Pushes over a slow link, and sends the signal half a second after five sessions are open, so that bodies are under way. */
  const cancel = async (image: string, host: string, name: NodeJS.Signals, witness: Witness): Promise<Cancelled> => {
    let open = 0;
    const run = await runAction({
      inputs: { image, tags: `${host}/cancel/app:1`, concurrency: '10', 'chunk-size': '1MB', export: 'save' },
      env: engine.env,
      runner,
      onOutput: (_, signal) => {
        if (open > 0 || witness.openUploads().length < 5) return;
        open = witness.openUploads().length;
        setTimeout(() => signal(name), 500);
      },
    });
    return { run, open };
  };

  describe.each(Object.keys(REGISTRIES))('into %s', (kind) => {
    it.each([
      ['SIGTERM', 'the engine'],
      ['SIGTERM', 'a docker-archive file'],
      ['SIGINT', 'the engine'],
    ] as const)('by %s, from %s: is gone soon and leaves nothing', async (signal, from) => {
      const image = from === 'the engine' ? IMAGE : `docker-archive:${join(folder, 'image.tar')}`;
      const witness = await REGISTRIES[kind]!();
      const proxy = await startFaultProxy({ target: witness.host, bandwidth: BANDWIDTH });
      try {
        const { run, open } = await cancel(image, proxy.host, signal, witness);
        expect(open).toBeGreaterThanOrEqual(5);
        expect(run.errors).toEqual([expect.stringMatching(/cancelled/i)]);
        // The runner kills what is not gone in time: there is no exit code then.
        expect([run.exitCode, run.signal]).toEqual([1, undefined]);
        expect(run.outputs).not.toHaveProperty('digest');
        expect(witness.openUploads().filter((upload) => !witness.undeletable().includes(upload))).toEqual([]);
        expect(witness.manifests()).toEqual([]);
        expect(filesBelow(runner.temp)).toEqual([]);
        expect(processesWith(`save ${IMAGE}`)).toEqual([]);
      } finally {
        await proxy.close();
        await witness.stop();
      }
    });
  });
});
