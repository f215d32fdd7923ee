/** What a real image holds, taken from this machine's own files: programs, libraries, packages, documents, and bytes that do not shrink. */
import { createHash } from 'node:crypto';
import { createReadStream, globSync, lstatSync } from 'node:fs';
import { Readable } from 'node:stream';
import { contentOf } from '../../__tests__/support/content.ts';

/** A file of a layer: the first `bytes` of a file of this machine, or so many random-looking bytes from the seed. */
export interface LayerFile {
  /** Below the layer's root, without a leading slash. */
  readonly name: string;
  readonly bytes: number;
  readonly open: () => Readable;
}

interface Found {
  readonly path: string;
  readonly bytes: number;
}

/** Shares of a layer's bytes by kind; with them gzip comes to a ratio near 0.43, as for the images that users push. */
const KINDS: ReadonlyArray<readonly [share: number, patterns: readonly string[]]> = [
  [0.32, ['/usr/{bin,sbin,libexec}/**']],
  [0.34, ['/usr/lib/**/*.{so,so.*}']],
  [0.08, ['/usr/{lib,local/lib}/python3*/**/*.{py,pyc}']],
  [0.1, ['{/usr/share/nodejs,/usr/lib/node_modules,node_modules}/**/*.{js,mjs,cjs,ts,json,map}']],
  [0.08, ['/usr/{include,share/doc,share/perl,share/man}/**']],
];
/** Wheels, pictures, archives. */
const RANDOM_SHARE = 0.08;
const RANDOM_FILE = 4_000_000;
/** One giant program would be all of a small layer's share. */
const LONGEST_FILE = 64_000_000;

/** The files of one layer: exactly `bytes` bytes of contents. The same on the same machine for the same seed. Throws an Error when the machine has nothing of a kind. */
export function layerFiles(seed: string, bytes: number): readonly LayerFile[] {
  const random = Math.round(bytes * RANDOM_SHARE);
  const known = KINDS.flatMap(([share], kind) => fromMachine(seed, kind, Math.round(bytes * share)));
  const rest = bytes - random - known.reduce((sum, file) => sum + file.bytes, 0);
  return [...known, ...fromMachine(`${seed} rest`, 1, rest), ...incompressible(seed, random)];
}

function fromMachine(seed: string, kind: number, bytes: number): LayerFile[] {
  const order = shuffled(poolOf(kind), seed);
  const files: LayerFile[] = [];
  let left = bytes;
  // A machine with few files of a kind gives them again, under another name: gzip's window of 32 KiB does not see that.
  for (let round = 0; left > 0; round++) {
    for (const { path, bytes: size } of order) {
      if (left <= 0) break;
      const length = Math.min(size, left);
      files.push({
        name: `${round === 0 ? '' : `again${round}`}${path}`.replace(/^\//, ''),
        bytes: length,
        open: () => createReadStream(path, { end: length - 1 }),
      });
      left -= length;
    }
  }
  return files;
}

function incompressible(seed: string, bytes: number): LayerFile[] {
  return Array.from({ length: Math.ceil(bytes / RANDOM_FILE) }, (_, index) => {
    const length = Math.min(RANDOM_FILE, bytes - index * RANDOM_FILE);
    return {
      name: `data/${index}.bin`,
      bytes: length,
      open: () => Readable.from(contentOf('random', `${seed} ${index}`, length)),
    };
  });
}

const pools = new Map<number, readonly Found[]>();

/** All files of a kind, by path. */
function poolOf(kind: number): readonly Found[] {
  const known = pools.get(kind);
  if (known) return known;
  const [, patterns = []] = KINDS[kind] ?? [];
  const found = globSync(patterns, { exclude: (name) => name.includes('.cache') })
    .map((path) => ({ path, stat: lstatSync(path, { throwIfNoEntry: false }) }))
    .flatMap(({ path, stat }) => (stat?.isFile() && stat.size > 0 ? [{ path, bytes: stat.size }] : []))
    .filter(({ bytes }) => bytes <= LONGEST_FILE)
    .sort((a, b) => (a.path < b.path ? -1 : 1));
  if (found.length === 0) throw new Error(`this machine has no file that matches ${patterns.join(', ')}`);
  pools.set(kind, found);
  return found;
}

function shuffled(files: readonly Found[], seed: string): readonly Found[] {
  const rank = (path: string) => createHash('sha1').update(`${seed} ${path}`).digest('hex');
  return files
    .map((file) => ({ file, rank: rank(file.path) }))
    .sort((a, b) => (a.rank < b.rank ? -1 : 1))
    .map(({ file }) => file);
}
