/** What only some pushes need: made by the first who asks for it, and closed only if somebody did. */
export class OnDemand<T extends { close(): Promise<void> }> {
  readonly #make: () => Promise<T>;
  #made: Promise<T> | undefined;
  #closed = false;

  constructor(make: () => Promise<T>) {
    this.#make = make;
  }

  /** The same for all. Rejects as its making does, and after `close`: nobody would close it any more. */
  async get(): Promise<T> {
    if (this.#closed) throw new Error('the push is over');
    this.#made ??= this.#make();
    return this.#made;
  }

  async close(): Promise<void> {
    this.#closed = true;
    await (await this.#made)?.close();
  }
}
