/** What the registry holds before a run: nothing, or what some push left there. */
import { existsSync, mkdirSync } from 'node:fs';
import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { run } from '../../__tests__/support/real/processes.ts';

const LIMIT = 300_000;

export class RegistryState {
  readonly #storage: string;
  readonly #kept: string;

  /** The registry's storage folder. It has no cache in memory, so it may change while it runs. */
  constructor(storage: string) {
    this.#storage = storage;
    this.#kept = `${storage}-kept`;
  }

  /** Empties the registry. */
  async wipe(): Promise<void> {
    mkdirSync(this.#storage, { recursive: true });
    await this.#sh('rm -rf "$0"/*', this.#storage);
  }

  /** Whether a state of this name was kept. */
  has(name: string): boolean {
    return existsSync(join(this.#kept, name));
  }

  /** Keeps what the registry holds now. Blobs are links: the registry never writes into one that exists. */
  async keep(name: string): Promise<void> {
    const to = join(this.#kept, name);
    mkdirSync(to, { recursive: true });
    await this.#copy(this.#storage, to);
  }

  /** Makes the registry hold what was kept under this name. */
  async restore(name: string): Promise<void> {
    await this.wipe();
    await this.#copy(join(this.#kept, name), this.#storage);
  }

  /** Bytes of all blobs that it holds. */
  async blobBytes(): Promise<number> {
    const root = join(this.#storage, 'docker/registry/v2/blobs');
    const names = await readdir(root, { recursive: true }).catch(() => []);
    const data = names.filter((name) => name.endsWith('/data'));
    const sizes = await Promise.all(data.map(async (name) => (await stat(join(root, name))).size));
    return sizes.reduce((sum, size) => sum + size, 0);
  }

  async #copy(from: string, to: string): Promise<void> {
    const below = 'docker/registry/v2';
    mkdirSync(join(to, below), { recursive: true });
    await this.#sh(
      `cp -al "$0/${below}/blobs" "$1/${below}/" && cp -a "$0/${below}/repositories" "$1/${below}/"`,
      from,
      to,
    );
  }

  async #sh(script: string, ...args: readonly string[]): Promise<void> {
    await run('sh', ['-c', script, ...args], { timeout: LIMIT });
  }
}
