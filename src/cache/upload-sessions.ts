/**
 * Upload sessions in progress, noted on disk so that the next push of the same blob to the same repository goes on where
 * a push was killed. Only where a later push finds them: for the terminal command, and on self-hosted runners.
 *
 *     uploads/<hash of repository and blob>.<process>    a note, as JSON; one for each process, so that none is locked
 *
 * Notes hold no credentials, but a location may be signed: they are readable by their owner alone and never logged.
 */

import { createHash } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { SessionNote } from '../blob/blob.ts';
import { isAbandoned, makePrivateFolder, ownName, PRIVATE_FILE, removeAbandoned } from '../blob/private-folder.ts';
import { cacheFolder } from '../common/platform.ts';

/** What a note is called while it is written. */
const PART = 'part.';

/** Registries remove uploads that are not finished after a day (Harbor) to a week (distribution). Milliseconds. */
const FORGOTTEN_AFTER = 7 * 24 * 60 * 60 * 1000;

export class UploadSessions {
  readonly #dir: string;
  readonly #owner = ownName();
  readonly #noted = new Set<string>();
  #made: Promise<unknown> | undefined;

  constructor(dir: string) {
    this.#dir = join(dir, 'uploads');
  }

  /**
   * The session that a killed push has left for a blob in a repository (`registry/name`), and which no other push goes
   * on with; it is this process's from now on. `blob`: its digest, or what stands for a digest that is not known yet.
   * Never rejects.
   */
  async take(repository: string, blob: string): Promise<SessionNote | undefined> {
    try {
      await this.#make();
      const prefix = `${hashOf(repository, blob)}.`;
      for (const name of readdirSync(this.#dir).filter((one) => one.startsWith(prefix))) {
        const path = join(this.#dir, name);
        if (!(await isAbandoned(path, prefix))) continue;
        const note = this.#claim(path, prefix);
        if (note) return note;
      }
    } catch {
      // A note is a hint: without it the upload begins anew.
    }
    return undefined;
  }

  /**
   * Notes how far an upload has come; undefined removes the note. At once, since the next moment may be the last. Never
   * throws.
   */
  note(repository: string, blob: string, session: SessionNote | undefined): void {
    const path = join(this.#dir, `${hashOf(repository, blob)}.${this.#owner}`);
    try {
      if (session === undefined) {
        if (this.#noted.delete(path)) rmSync(path, { force: true });
        return;
      }
      if (this.#noted.size === 0) mkdirSync(this.#dir, { recursive: true, mode: 0o700 });
      this.#noted.add(path);
      const { location, offset, chunkSize } = session;
      const part = join(this.#dir, `${PART}${this.#owner}`);
      writeFileSync(part, JSON.stringify({ version: 1, location, offset, chunkSize }), { mode: PRIVATE_FILE });
      renameSync(part, path);
    } catch {
      // A full or read-only disk costs the push nothing but this help for the next one.
    }
  }

  /** Removes the notes of this process: its sessions were finished or deleted. */
  close(): void {
    for (const path of this.#noted) rmSync(path, { force: true });
    this.#noted.clear();
  }

  /** Takes a note over by renaming it: of several pushes that try, one succeeds. */
  #claim(path: string, prefix: string): SessionNote | undefined {
    const own = join(this.#dir, `${prefix}${this.#owner}`);
    const isOld = Date.now() - statSync(path).mtimeMs > FORGOTTEN_AFTER;
    renameSync(path, own);
    const note = isOld ? undefined : parse(readFileSync(own, 'utf8'));
    if (note) this.#noted.add(own);
    else rmSync(own, { force: true });
    return note;
  }

  #make(): Promise<unknown> {
    this.#made ??= makePrivateFolder(this.#dir)
      .then(() => removeAbandoned(this.#dir, PART))
      .then(() => this.#removeForgotten());
    return this.#made;
  }

  #removeForgotten(): void {
    for (const name of readdirSync(this.#dir)) {
      const path = join(this.#dir, name);
      const found = statSync(path, { throwIfNoEntry: false });
      if (found && Date.now() - found.mtimeMs > FORGOTTEN_AFTER) rmSync(path, { force: true });
    }
  }
}

const hashOf = (repository: string, blob: string): string =>
  createHash('sha256').update(`${repository}\n${blob}`).digest('hex').slice(0, 32);

function parse(text: string): SessionNote | undefined {
  let note: unknown;
  try {
    note = JSON.parse(text);
  } catch {
    return undefined;
  }
  if (typeof note !== 'object' || note === null) return undefined;
  const { version, location, offset, chunkSize } = note as Record<string, unknown>;
  const isSound = version === 1 && typeof location === 'string' && URL.canParse(location) && isCount(offset);
  if (!isSound || (chunkSize !== undefined && !isCount(chunkSize))) return undefined;
  return { location, offset, ...(chunkSize === undefined ? {} : { chunkSize }) };
}

const isCount = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0;

/**
 * Where sessions are noted; undefined where no later push would find them. `workDir` lasts for the terminal command; a
 * runner empties its RUNNER_TEMP before each job, but a self-hosted one keeps the user's cache folder, and a hosted one
 * keeps nothing.
 */
export function uploadSessionsFolder(options: {
  readonly workDir: string;
  readonly isAction: boolean;
  readonly env: NodeJS.ProcessEnv;
}): string | undefined {
  if (!options.isAction) return options.workDir;
  return options.env.RUNNER_ENVIRONMENT === 'self-hosted' ? cacheFolder(options.env) : undefined;
}
