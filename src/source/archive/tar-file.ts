/** A tar file on disk as a folder of files: its headers are read once, its bodies when they are asked for. */

import { posix } from 'node:path';
import type { Header } from 'tar-stream';
import { MAX_ENTRIES, MAX_LINKS } from '../../oci/documents.ts';
import { asImageError, ImageError } from '../../oci/error.ts';
import type { Files, OpenFile, RandomFile } from '../files.ts';
import { cleanName, cleanTarget } from '../names.ts';
import { bodySize, readHeader, TAR_BLOCK } from './entry.ts';

/** Read at once where small files lie side by side; between large ones all but a block of it is wasted. */
const WINDOW = 16 * 1024;

type Member = { readonly offset: number; readonly size: number } | { readonly target: string };

/** Reads a tar file's headers. Throws ImageError for one that is broken or made to harm. */
export async function openTarFile(file: RandomFile, description: string): Promise<Files> {
  try {
    return new TarFiles(file, description, await readMembers(file));
  } catch (error) {
    throw asImageError(error, 'Archive', `${description} can't be read`, 'save or download it again');
  }
}

async function readMembers(file: RandomFile): Promise<Map<string, Member>> {
  const members = new Map<string, Member>();
  const readBlock = blockReader(file);
  let count = 0;
  for (let position = 0; position < file.size; ) {
    const found = await readHeader(readBlock, position);
    if (!found) break;
    const { header, body } = found;
    count += 1;
    if (count > MAX_ENTRIES) throw new ImageError('Archive', `it has more than ${MAX_ENTRIES} entries`);
    const size = bodySize(header);
    if (body + size > file.size) {
      throw new ImageError(
        'Archive',
        `it is cut off: ${JSON.stringify(header.name)} ends ${body + size - file.size} bytes after the file`,
      );
    }
    addMember(members, header, body, size);
    position = body + Math.ceil(size / TAR_BLOCK) * TAR_BLOCK;
  }
  if (count === 0) throw new ImageError('Archive', 'it has no entries');
  return members;
}

/** Reads single blocks, and asks the disk for a window of them. The last block of a file may be short. */
function blockReader(file: RandomFile): (position: number) => Promise<Buffer> {
  let window: Buffer = Buffer.alloc(0);
  let start = 0;
  return async (position) => {
    if (position < start || position + TAR_BLOCK > start + window.length) {
      window = await file.read(position, WINDOW);
      start = position;
    }
    return window.subarray(position - start, position - start + TAR_BLOCK);
  };
}

function addMember(members: Map<string, Member>, header: Header, offset: number, size: number): void {
  const name = cleanName(header.name);
  const { type } = header;
  if (type === 'symlink' || type === 'link')
    members.set(name, { target: cleanTarget(name, type, header.linkname ?? '') });
  if (type !== 'file' && type !== 'contiguous-file') return;
  if (members.has(name) && /^(index|manifest)\.json$/.test(name))
    throw new ImageError('Archive', `it has ${name} twice`);
  members.set(name, { offset, size });
}

class TarFiles implements Files {
  readonly description: string;
  readonly #file: RandomFile;
  readonly #members: ReadonlyMap<string, Member>;

  constructor(file: RandomFile, description: string, members: ReadonlyMap<string, Member>) {
    this.#file = file;
    this.description = description;
    this.#members = members;
  }

  async open(path: string): Promise<OpenFile | undefined> {
    const found = this.#resolve(path);
    if (!found) return undefined;
    const { offset, size } = found;
    return { size, read: (start = 0, end = size) => this.#file.stream(offset + start, offset + Math.min(end, size)) };
  }

  close(): Promise<void> {
    return this.#file.close();
  }

  /** Follows links from file to file, and through a linked folder where a part of the path is one. */
  #resolve(path: string): { offset: number; size: number } | undefined {
    let name = path;
    for (let links = 0; links <= MAX_LINKS; links += 1) {
      const member = this.#members.get(name);
      if (member && 'offset' in member) return member;
      const next = member ? member.target : this.#throughFolder(name);
      if (next === undefined) return undefined;
      name = next;
    }
    throw new ImageError(
      'Archive',
      `${this.description} has links that lead to each other, at ${JSON.stringify(path)}`,
    );
  }

  #throughFolder(name: string): string | undefined {
    for (let slash = name.indexOf('/'); slash > 0; slash = name.indexOf('/', slash + 1)) {
      const member = this.#members.get(name.slice(0, slash));
      if (member && 'target' in member) return posix.join(member.target, name.slice(slash));
    }
    return undefined;
  }
}
