/** Writes archives that depend on nothing but their files: sorted, owned by root, all with one time. */
import { createWriteStream } from 'node:fs';
import { pipeline } from 'node:stream/promises';
import { createGzip } from 'node:zlib';
import { pack } from 'tar-stream';
import { ZipFile } from 'yazl';

export interface ArchivedFile {
  readonly path: string;
  readonly content: Buffer;
  readonly isProgram?: boolean;
}

const modeOf = ({ isProgram }: ArchivedFile): number => (isProgram ? 0o755 : 0o644);

const sorted = (files: readonly ArchivedFile[]): readonly ArchivedFile[] =>
  files.toSorted((one, other) => (one.path < other.path ? -1 : 1));

/** Writes a .tar.gz. */
export const writeTarball = async (out: string, files: readonly ArchivedFile[], mtime: Date): Promise<void> => {
  const tar = pack();
  const writing = pipeline(tar, createGzip(), createWriteStream(out));
  for (const file of sorted(files)) tar.entry({ name: file.path, mode: modeOf(file), mtime }, file.content);
  tar.finalize();
  await writing;
};

/** Writes a .zip. Its times are local ones, so the process must run with TZ=UTC for the same bytes everywhere. */
export const writeZip = async (out: string, files: readonly ArchivedFile[], mtime: Date): Promise<void> => {
  const zip = new ZipFile();
  for (const file of sorted(files)) zip.addBuffer(file.content, file.path, { mode: 0o100000 | modeOf(file), mtime });
  zip.end();
  await pipeline(zip.outputStream, createWriteStream(out));
};
