/** Where the registry keeps things: blobs and uploads as files, which repository has what in memory. */

import { createHash, randomUUID } from 'node:crypto';
import { readdirSync } from 'node:fs';
import { mkdir, rename, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Session } from './session.ts';

export interface StoredManifest {
  readonly digest: string;
  readonly mediaType: string;
  readonly bytes: Buffer;
}

/** One repository: the blobs it may serve, its manifests by the reference that they were put under, its tags. */
export interface Repository {
  readonly blobs: Set<string>;
  /** Blobs that came by a mount, with the repository that they came from. */
  readonly mounted: Map<string, string>;
  readonly manifests: Map<string, StoredManifest>;
  readonly tags: Map<string, string>;
}

export const sha256 = (bytes: Uint8Array): string => `sha256:${createHash('sha256').update(bytes).digest('hex')}`;

export class Store {
  readonly #folder: string;
  readonly sessions = new Map<string, Session>();
  /** What sessions that were closed have become: digests by session id. */
  readonly finished = new Map<string, string>();
  readonly repositories = new Map<string, Repository>();

  constructor(folder: string) {
    this.#folder = folder;
  }

  /** Makes the folders. */
  async prepare(): Promise<void> {
    await mkdir(join(this.#folder, 'blobs'), { recursive: true });
    await mkdir(join(this.#folder, 'uploads'), { recursive: true });
  }

  /** The file that holds a blob, whether or not it is there. */
  blobPath(digest: string): string {
    return join(this.#folder, 'blobs', digest.replace(':', '-'));
  }

  repository(name: string): Repository {
    const known = this.repositories.get(name);
    if (known !== undefined) return known;
    const made: Repository = { blobs: new Set(), mounted: new Map(), manifests: new Map(), tags: new Map() };
    this.repositories.set(name, made);
    return made;
  }

  /** Everything that is kept, in a fixed order; a repository that nothing was put into is none. */
  contents(): unknown {
    const repositories = [...this.repositories]
      .map(([name, { blobs, manifests, tags }]) => ({
        name,
        blobs: [...blobs].sort(),
        manifests: [...manifests.keys()].sort(),
        tags: [...tags].map(([tag, digest]) => `${tag} ${digest}`).sort(),
      }))
      .filter(({ blobs, manifests, tags }) => blobs.length + manifests.length + tags.length > 0)
      .sort((a, b) => a.name.localeCompare(b.name));
    const files = ['blobs', 'uploads'].flatMap((folder) => readdirSync(join(this.#folder, folder)));
    return { repositories, sessions: [...this.sessions.keys()].sort(), files: files.sort() };
  }

  /** The length in bytes of a blob that a repository has, else undefined. */
  async blobSize(repository: string, digest: string): Promise<number | undefined> {
    if (this.repositories.get(repository)?.blobs.has(digest) !== true) return undefined;
    return (await stat(this.blobPath(digest))).size;
  }

  /** Opens a session. */
  async open(repository: string): Promise<Session> {
    const session = new Session(join(this.#folder, 'uploads'), repository);
    await session.create();
    this.sessions.set(session.id, session);
    return session;
  }

  /** Ends a session and takes its bytes away. */
  async drop(session: Session): Promise<void> {
    this.sessions.delete(session.id);
    await session.remove();
  }

  /** Makes the bytes of a session a blob of its repository. The digest was compared by the caller. */
  async commit(session: Session, digest: string): Promise<void> {
    this.sessions.delete(session.id);
    this.finished.set(session.id, digest);
    await rename(session.file, this.blobPath(digest));
    const repository = this.repository(session.repository);
    repository.blobs.add(digest);
    repository.mounted.delete(digest);
  }

  /** Puts a blob into a repository without any upload. */
  async add(repository: string, bytes: Uint8Array): Promise<string> {
    const digest = sha256(bytes);
    // Another request may be reading the same blob.
    const written = `${this.blobPath(digest)}.${randomUUID()}`;
    await writeFile(written, bytes);
    await rename(written, this.blobPath(digest));
    this.repository(repository).blobs.add(digest);
    return digest;
  }

  /** Takes a blob out of a repository, and its file when nobody has it any more. */
  async removeBlob(repository: string, digest: string): Promise<boolean> {
    const had = this.repositories.get(repository)?.blobs.delete(digest) ?? false;
    const wanted = [...this.repositories.values()].some((other) => other.blobs.has(digest));
    if (had && !wanted) await rm(this.blobPath(digest), { force: true });
    return had;
  }

  /** Forgets all, files too. */
  async clear(): Promise<void> {
    this.sessions.clear();
    this.finished.clear();
    this.repositories.clear();
    await rm(join(this.#folder, 'blobs'), { recursive: true, force: true });
    await rm(join(this.#folder, 'uploads'), { recursive: true, force: true });
    await this.prepare();
  }
}
