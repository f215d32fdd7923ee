/**
 * Measures the compressors that a layer could get, in a worker thread, on the same sample, all of them in turn on every 8 MiB of it,
 * so that whatever else runs on the machine slows all alike; then whole layers by the product's own path, several rounds:
 *
 *   node scripts/measure-compressors.ts [--rounds 3] [--sample layer.tar] [--only gzip]
 *
 * Without --sample it makes one of about 250 MB from this machine's own files: programs, libraries, Python, JavaScript, documents,
 * and a share that is compressed already. Prints the Markdown table of docs/compressors.md.
 */
import { execFileSync } from 'node:child_process';
import { createReadStream, globSync, mkdtempSync, openSync, readSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import * as zlib from 'node:zlib';
import { type Compression, codecFor, grownBytes } from '../src/blob/compress/compression.ts';
import { CompressorPool } from '../src/blob/compress/pool.ts';
import { Spool } from '../src/blob/spool.ts';
import { compressLayer } from '../src/blob/streaming.ts';
import { digestOf } from '../src/oci/types.ts';

const MB = 1_000_000;
const MIB = 1024 * 1024;

/** Bytes that a block is compressed to. */
type Measured = (block: Uint8Array) => number;

interface Candidate {
  readonly name: string;
  readonly level: number;
  readonly blockBytes: number;
}

interface Result {
  readonly bytesOut: number;
  readonly seconds: number;
}

/** What can be measured, by the name in the table. Each makes what would go into the layer: checksums count. */
const MAKERS: Readonly<Record<string, (level: number, blockBytes: number) => Measured | Promise<Measured>>> = {
  'ours, gzip': ours('gzip'),
  'ours, zstd': ours('zstd'),
  'Node gzipSync': (level, blockBytes) => (block) => zlib.gzipSync(block, { level, chunkSize: blockBytes }).length,
  'Node deflateRawSync, one member': (level, blockBytes) => {
    let dictionary: Buffer | undefined;
    return (block) => {
      zlib.crc32(block);
      const options = { level, chunkSize: blockBytes, finishFlush: zlib.constants.Z_SYNC_FLUSH };
      const { length } = zlib.deflateRawSync(block, dictionary ? { ...options, dictionary } : options);
      dictionary = Buffer.from(block.subarray(-32 * 1024));
      return length;
    };
  },
};

const CANDIDATES: readonly Candidate[] = [
  ...[1, 2, 3, 4, 6, 9].flatMap((level) => candidates('ours, gzip', level, 1)),
  ...[1, 3, 4, 6].flatMap((level) => candidates('Node gzipSync', level, 1)),
  ...[1, 4].flatMap((level) => candidates('Node deflateRawSync, one member', level, 1)),
  ...[1, 2, 3, 4, 5].flatMap((level) => candidates('ours, zstd', level, 2)),
  ...[1, 2].flatMap((level) => candidates('ours, zstd', level, 1)),
  ...candidates('ours, zstd', 3, 1, 4, 8),
];

function candidates(name: string, level: number, ...mebibytes: number[]): Candidate[] {
  return mebibytes.map((size) => ({ name, level, blockBytes: size * MIB }));
}

function ours(compression: 'gzip' | 'zstd') {
  return (level: number, blockBytes: number): Measured => {
    const codec = codecFor(compression, level);
    const into = new Uint8Array(grownBytes(blockBytes));
    return (block) => codec(block, into);
  };
}

/** Every candidate takes its turn on every piece of the file. Counts the thread's own CPU time, and not the first piece, on which all warm up. */
const PIECE = 8 * MIB;

async function measure(sample: string, chosen: readonly Candidate[]): Promise<Result[]> {
  const compressors = await Promise.all(chosen.map(({ name, level, blockBytes }) => MAKERS[name]!(level, blockBytes)));
  const results = chosen.map(() => ({ bytesOut: 0, seconds: 0 }));
  const file = openSync(sample, 'r');
  const buffer = new Uint8Array(PIECE);
  for (let length = readSync(file, buffer), first = true; length > 0; length = readSync(file, buffer), first = false) {
    for (const [at, compress] of compressors.entries()) {
      const before = process.threadCpuUsage();
      for (let start = 0; start < length; start += chosen[at]!.blockBytes) {
        results[at]!.bytesOut += compress(buffer.subarray(start, Math.min(length, start + chosen[at]!.blockBytes)));
      }
      const { user, system } = process.threadCpuUsage(before);
      if (!first) results[at]!.seconds += (user + system) / 1e6;
    }
  }
  return results;
}

/** Programs, libraries, packages, documents and what is compressed already, until each has its bytes. */
const SHARES: ReadonlyArray<readonly [bytes: number, ...patterns: string[]]> = [
  [70 * MB, '/usr/{bin,sbin,libexec}/**'],
  [80 * MB, '/usr/lib/{*-linux-gnu,gcc}/**/*.{so,so.*,a}'],
  [40 * MB, '/usr/{lib,local/lib}/python3*/**/*.{py,pyc,so}'],
  [40 * MB, '{/usr/share/nodejs,/usr/lib/node_modules,node_modules}/**/*.{js,mjs,cjs,ts,json,map}'],
  [30 * MB, '/usr/{include,share/doc,share/perl}/**/*[!z]'],
  [34 * MB, '/usr/{share,lib,local}/**/*.{gz,png,whl,jar,zip,xz,jpg}'],
];

function makeSample(folder: string): string {
  const list = join(folder, 'files');
  writeFileSync(list, `${SHARES.flatMap(([bytes, ...patterns]) => drawn(filesOf(patterns), bytes)).join('\n')}\n`);
  const sample = join(folder, 'sample.tar');
  // Fixed order, owner and time: the same files give the same bytes. What tar says of leading slashes is of no interest.
  execFileSync('tar', ['--owner=0', '--group=0', '--mtime=@0', '-cf', sample, '-T', list], {
    stdio: ['ignore', 'inherit', 'ignore'],
  });
  return sample;
}

const filesOf = (patterns: readonly string[]): string[] =>
  globSync([...patterns]).filter((path) => {
    const file = statSync(path, { throwIfNoEntry: false });
    return file?.isFile() === true && file.size < 12 * MB;
  });

/** Files from all over their folders, the same ones every time, until they have so many bytes. */
function drawn(files: readonly string[], bytes: number): string[] {
  const drawing = files.map((path) => ({ path, size: statSync(path).size, order: digestOf(Buffer.from(path)) }));
  drawing.sort((a, b) => (a.order < b.order ? -1 : 1));
  const chosen: string[] = [];
  for (let left = bytes; left > 0 && drawing.length > 0; ) {
    const { path, size } = drawing.pop()!;
    chosen.push(path);
    left -= size;
  }
  return chosen;
}

/** Go's own gzip at its default level, in one stream: what `docker push` sends. Undefined without a Go compiler. */
function goBytes(sample: string, folder: string): number | undefined {
  const source = join(folder, 'main.go');
  writeFileSync(
    source,
    `package main
import ("compress/gzip"; "fmt"; "io"; "os")
type count int64
func (c *count) Write(p []byte) (int, error) { *c += count(len(p)); return len(p), nil }
func main() { f, _ := os.Open(os.Args[1]); var c count; w := gzip.NewWriter(&c); io.Copy(w, f); w.Close(); fmt.Print(int64(c)) }
`,
  );
  try {
    return Number(
      execFileSync('go', ['run', source, sample], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }),
    );
  } catch {
    return undefined;
  }
}

function inThread(sample: string, chosen: readonly Candidate[]): Promise<Result[]> {
  return new Promise((resolve, reject) => {
    const worker = new Worker(fileURLToPath(import.meta.url), { workerData: { sample, chosen } });
    worker.once('message', resolve);
    worker.once('error', reject);
  });
}

/** Whole layers by the product's own path, file to file on two threads: seconds of wall time, and CPU of all threads. */
const PUSHED: ReadonlyArray<readonly [Compression, number]> = [
  ['gzip', 1],
  ['gzip', 3],
  ['gzip', 4],
  ['zstd', 2],
  ['zstd', 3],
];

async function endToEnd(sample: string, folder: string, rounds: number): Promise<void> {
  const size = statSync(sample).size;
  const spool = await Spool.open(join(folder, 'spool'));
  const runs = PUSHED.map(() => [] as Array<{ wall: number; cpu: number }>);
  for (let round = 0; round < rounds; round++) {
    for (const [at, [compression, level]] of PUSHED.entries()) {
      const pool = new CompressorPool({ compression, level, threads: 2 });
      const [start, before] = [performance.now(), process.cpuUsage()];
      const layer = compressLayer(createReadStream(sample), { pool, spool, signal: new AbortController().signal });
      await layer.completed();
      const { user, system } = process.cpuUsage(before);
      runs[at]!.push({ wall: (performance.now() - start) / 1000, cpu: (user + system) / 1e6 });
      await layer.release();
      await pool.close();
    }
  }
  await spool.close();
  console.log(
    '\n| layer to spool file, 2 threads | MB/s | cores busy | CPU s per GB, hashing and all |\n|---|---|---|---|',
  );
  for (const [at, [compression, level]] of PUSHED.entries()) {
    const [wall, cpu] = [median(runs[at]!.map((run) => run.wall)), median(runs[at]!.map((run) => run.cpu))];
    const cells = [(size / MB / wall).toFixed(0), (cpu / wall).toFixed(2), ((cpu / size) * 1e9).toFixed(1)];
    console.log(`| ${compression} ${level} | ${cells.join(' | ')} |`);
  }
}

const median = (values: readonly number[]): number => values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)]!;

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      rounds: { type: 'string', default: '3' },
      sample: { type: 'string' },
      only: { type: 'string', default: '' },
    },
  });
  const folder = mkdtempSync(join(tmpdir(), 'compressors-'));
  try {
    const sample = values.sample ?? makeSample(folder);
    const size = statSync(sample).size;
    const chosen = CANDIDATES.filter((candidate) => candidate.name.includes(values.only));
    const results = await inThread(sample, chosen);
    const go = goBytes(sample, folder);
    console.log(
      `Sample: ${(size / MB).toFixed(0)} MB; Node ${process.version}, zlib ${process.versions.zlib}, zstd ${process.versions.zstd}.`,
    );
    console.log(
      `Go's gzip, default level: ${go === undefined ? 'not measured (no go)' : `ratio ${(go / size).toFixed(4)}`}.\n`,
    );
    console.log(
      '| compressor | level | block, MiB | MB/s a core | ratio | size against Go |\n|---|---|---|---|---|---|',
    );
    for (const [at, { name, level, blockBytes }] of chosen.entries()) {
      const { bytesOut, seconds } = results[at]!;
      const speed = (size - PIECE) / MB / seconds;
      const against = go === undefined ? '' : `${((bytesOut / go - 1) * 100).toFixed(1)} %`;
      const cells = [name, level, blockBytes / MIB, speed.toFixed(0), (bytesOut / size).toFixed(4), against];
      console.log(`| ${cells.join(' | ')} |`);
    }
    await endToEnd(sample, folder, Number(values.rounds));
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

if (isMainThread) {
  await main();
} else {
  const { sample, chosen } = workerData as { sample: string; chosen: readonly Candidate[] };
  parentPort!.postMessage(await measure(sample, chosen));
}
