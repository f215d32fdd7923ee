/** Bytes in their order, read straight into the reader's own memory: what an archive that comes as a stream is read from. */
export interface ByteInput {
  /**
   * Reads the next bytes into a block and gives their number: less than fit in only at the end. One call at a time; between two of them
   * whoever writes has to wait. Rejects when the source breaks off.
   */
  fill(into: Uint8Array): Promise<number>;
  /** Whether nothing more will come: the end was read, or the source is broken or closed. */
  readonly over: boolean;
}
