/** Compressed archives: decompressed once into a file without a name, so that every blob in them can be opened. */

import { createWriteStream } from 'node:fs';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { createGunzip, createZstdDecompress } from 'node:zlib';
import { asImageError, ImageError } from '../../oci/error.ts';
import { blobFormat, HEAD_BYTES, RandomFile } from '../files.ts';

export interface ArchiveOptions {
  /** Where a compressed archive is decompressed; the system's folder for temporary files without it. */
  readonly tempDir?: string | undefined;
  readonly signal: AbortSignal;
}

/**
 * Opens an archive file for reading at any place; gzip and zstd around it are told by the first bytes. The name of the
 * spool file is gone before this returns, so its room is given back whatever happens to this process. Throws ImageError.
 */
export async function openArchiveFile(path: string, description: string, options: ArchiveOptions): Promise<RandomFile> {
  const file = await openPlain(path, description);
  const form = blobFormat(await file.read(0, HEAD_BYTES));
  if (form === 'tar') return file;
  try {
    if (form === 'other') {
      throw new ImageError('Archive', `${description} is neither a tar file nor one compressed with gzip or zstd`, {
        remedy: 'give the file that docker save, podman save, skopeo or buildx wrote',
      });
    }
    return await decompress(file, form, description, options);
  } finally {
    await file.close();
  }
}

async function openPlain(path: string, description: string): Promise<RandomFile> {
  try {
    return await RandomFile.open(path);
  } catch (error) {
    throw asImageError(error, 'Archive', `${description} can't be opened`, 'check the path');
  }
}

async function decompress(
  file: RandomFile,
  form: 'gzip' | 'zstd',
  description: string,
  { tempDir = tmpdir(), signal }: ArchiveOptions,
): Promise<RandomFile> {
  const folder = await folderIn(tempDir).catch((error) => {
    throw asImageError(error, 'Archive', `no place to decompress ${description} in ${tempDir}`);
  });
  try {
    const spool = join(folder, 'archive.tar');
    const decoder = form === 'gzip' ? createGunzip() : createZstdDecompress();
    await pipeline(file.stream(0, file.size), decoder, createWriteStream(spool, { mode: 0o600 }), { signal });
    return await RandomFile.open(spool);
  } catch (error) {
    signal.throwIfAborted();
    throw asImageError(error, 'Archive', `${description} can't be decompressed (${form})`, remedyFor(error, tempDir));
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function folderIn(tempDir: string): Promise<string> {
  await mkdir(tempDir, { recursive: true });
  return mkdtemp(join(tempDir, 'archive-'));
}

const remedyFor = (error: unknown, tempDir: string): string =>
  (error as NodeJS.ErrnoException).code === 'ENOSPC'
    ? `make room in ${tempDir}`
    : 'the file is damaged: save or download it again';
