/** A package of the npm registry as a file: fetched by npm, so with its proxies and mirrors, and checked against a pinned integrity. */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { gunzipSync } from 'node:zlib';
import { extract } from 'tar-stream';

export interface PinnedPackage {
  readonly name: string;
  readonly version: string;
  /** As package-lock.json has it: `sha512-` and base64. */
  readonly integrity: string;
}

/** Kept between runs; a file in it is checked each time it is used. */
const CACHE = fileURLToPath(new URL('../../node_modules/.cache/chunked-push', import.meta.url));

/** Returns the package's files of which `wanted` is true, by their path inside the package. Throws an Error on other bytes than the pinned ones. */
export const packageFiles = async (
  pinned: PinnedPackage,
  wanted: (path: string) => boolean,
): Promise<ReadonlyMap<string, Buffer>> => {
  const files = new Map<string, Buffer>();
  const unpacked = extract();
  unpacked.end(gunzipSync(tarball(pinned)));
  for await (const entry of unpacked) {
    // npm puts everything below "package/".
    const path = entry.header.name.replace(/^[^/]+\//, '');
    if (entry.header.type !== 'file' || !wanted(path)) entry.resume();
    else files.set(path, await buffer(entry));
  }
  return files;
};

const tarball = (pinned: PinnedPackage): Buffer => {
  const file = `${pinned.name}-${pinned.version}.tgz`;
  const kept = join(CACHE, file);
  if (existsSync(kept)) {
    const bytes = readFileSync(kept);
    if (integrityOf(bytes) === pinned.integrity) return bytes;
  }
  mkdirSync(CACHE, { recursive: true });
  // A folder of its own: several test files may fetch the same package at once.
  const folder = mkdtempSync(join(CACHE, 'fetch-'));
  try {
    execFileSync('npm', ['pack', '--silent', `${pinned.name}@${pinned.version}`], {
      cwd: folder,
      stdio: ['ignore', 'ignore', 'inherit'],
    });
    const bytes = readFileSync(join(folder, file));
    const found = integrityOf(bytes);
    if (found !== pinned.integrity)
      throw new Error(`${pinned.name}@${pinned.version} has the integrity ${found}, not ${pinned.integrity} as pinned`);
    renameSync(join(folder, file), kept);
    return bytes;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
};

const integrityOf = (bytes: Buffer): string => `sha512-${createHash('sha512').update(bytes).digest('base64')}`;
