/** The contestants: our action in its ways, and what users would run instead, each as a command that is measured. */
import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { peakMemoryOf } from '../../__tests__/support/memory.ts';
import { commandOf, isUbuntu, unpackedRoot } from '../../__tests__/support/real/parts.ts';
import { freshRunner, runAction } from '../../__tests__/support/runner.ts';
import { unpackFromSuite } from '../setup/apt.ts';
import type { Attempt } from './results.ts';

/** What a run tells of itself; the meter adds the rest. */
export type Told = Pick<Attempt, 'seconds' | 'peakMemory' | 'failed' | 'metadata'>;

export type Environment = Readonly<Record<string, string | undefined>>;

/** A push by our action on a fresh runner. Its spool lies in `temp`. */
export async function pushByAction(options: {
  readonly action: string;
  readonly inputs: Readonly<Record<string, string>>;
  readonly env: Environment;
  readonly temp: string;
}): Promise<Told> {
  const fresh = freshRunner();
  const runner = { ...fresh, temp: options.temp };
  rmSync(options.temp, { recursive: true, force: true });
  mkdirSync(options.temp);
  try {
    const run = await runAction({
      inputs: options.inputs,
      env: options.env,
      action: options.action,
      runner,
      timeout: HOUR,
    });
    const told: Told = {
      seconds: run.seconds,
      ...(run.peakMemory === undefined ? {} : { peakMemory: run.peakMemory }),
    };
    if (run.exitCode !== 0) return { ...told, failed: run.errors[0] ?? run.log.slice(-500) };
    const { bytesSent, spoolPeak, seconds } = JSON.parse(run.outputs.metadata ?? '{}');
    return { ...told, metadata: { bytesSent, spoolPeak, seconds } };
  } finally {
    fresh.remove();
    rmSync(options.temp, { recursive: true, force: true });
  }
}

const HOUR = 3_600_000;

/** Runs commands one after the other; the memory is that of the largest. Standard output goes nowhere. */
export async function runTool(commands: ReadonlyArray<readonly string[]>, env: Environment): Promise<Told> {
  const started = performance.now();
  let peakMemory = 0;
  let failed: string | undefined;
  for (const command of commands) {
    const ended = await runOne(command, env);
    peakMemory = Math.max(peakMemory, ended.peakMemory);
    failed = ended.failed;
    if (failed !== undefined) break;
  }
  return { seconds: (performance.now() - started) / 1000, peakMemory, ...(failed === undefined ? {} : { failed }) };
}

const runOne = ([program = '', ...args]: readonly string[], env: Environment) =>
  new Promise<{ peakMemory: number; failed?: string }>((resolve, reject) => {
    const child = spawn(program, args, { env: { ...process.env, ...env }, stdio: ['ignore', 'ignore', 'pipe'] });
    const memory = peakMemoryOf(child.pid);
    let words = '';
    child.stderr.on('data', (chunk: Buffer) => {
      words = (words + chunk.toString()).slice(-2000);
    });
    child.once('error', reject);
    child.once('close', (code) => {
      const peakMemory = memory.stop() ?? 0;
      const failed = words.trim().split('\n').at(-1) || `exit code ${code}`;
      resolve(code === 0 ? { peakMemory } : { peakMemory, failed });
    });
  });

/** Newer tools of Debian sid, unpacked beside the system; they run by the C library that they came with. */
const SID = 'bench-sid';
const SID_PACKAGES = [
  ...['crane', 'skopeo', 'libc6', 'libgpgme45', 'libassuan9', 'libgpg-error0'],
  ...['libsqlite3-0', 'libsubid6', 'libgcc-s1'],
];
const LOADERS: Readonly<Record<string, string>> = { x64: 'ld-linux-x86-64.so.2', arm64: 'ld-linux-aarch64.so.1' };

/** Brings skopeo and crane of Debian sid onto the machine; says what could not be had and why. */
export async function setupTools(): Promise<void> {
  if (isUbuntu() || !existsSync('/etc/debian_version') || existsSync(join(unpackedRoot, SID))) return;
  console.log('Unpacking skopeo and crane of Debian sid beside the system (about 60 MB) ...');
  await unpackFromSuite('sid', SID_PACKAGES, SID).catch((error: unknown) => {
    console.error(`Without skopeo 1.22 and crane: ${error instanceof Error ? error.message : error}`);
  });
}

/** The command line of a tool of sid; undefined when it is not there. */
function fromSid(tool: string): readonly string[] | undefined {
  const root = join(unpackedRoot, SID, 'usr');
  const program = join(root, 'bin', tool);
  if (!existsSync(program)) return undefined;
  const library = join(root, 'lib', process.arch === 'arm64' ? 'aarch64-linux-gnu' : 'x86_64-linux-gnu');
  return [join(library, LOADERS[process.arch] ?? ''), '--library-path', library, program];
}

/** skopeo of sid, else the system's own (which can't speak to Docker 28: its API is too old). */
export const skopeo = (): readonly string[] => fromSid('skopeo') ?? [commandOf('skopeo', 'skopeo')];

/** crane of sid; undefined where it can't be had: it is in no other package. */
export const crane = (): readonly string[] | undefined => fromSid('crane');
