/** What only some pushes need: made by the first who asks for it, and closed only if somebody did. */
export class OnDemand<T extends { close(): Promise<void> }> {
  readonly #make: () => Promise<T>;
  #making: Promise<T> | undefined;
  #made: T | undefined;
  #closed = false;

  constructor(make: () => Promise<T>) {
    this.#make = make;
  }

  /** The same for all. Rejects as its making does, and after `close`: nobody would close it any more. */
  async get(): Promise<T> {
    if (this.#closed) throw new Error('the push is over');
    this.#making ??= this.#make();
    this.#made = await this.#making;
    return this.#made;
  }

  /** What was made, if anybody has asked for it. */
  get made(): T | undefined {
    return this.#made;
  }

  async close(): Promise<void> {
    this.#closed = true;
    await (await this.#making)?.close();
  }
}
