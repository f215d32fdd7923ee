/** What the tests of uploads share: blobs from a seed, blobs that grow by hand, a client whose waits take no time. */
import { createHash } from 'node:crypto';
import { Readable } from 'node:stream';
import type { BlobIdentity, Reach, ReadableBlob } from '../../../src/blob/blob.ts';
import { type Digest, MediaType } from '../../../src/oci/types.ts';
import type { RegistryEvent } from '../../../src/registry/host/context.ts';
import { Registry, type RegistryOptions } from '../../../src/registry/registry.ts';
import { quickClock } from '../../faults/clock.ts';
import { contentOf } from '../../support/content.ts';

export const KIB = 1024;
export const MIB = 1024 * KIB;

/** Bytes that do not repeat, from a seed. */
export const bytesOf = (size: number, seed = 'blob'): Buffer => Buffer.concat([...contentOf('random', seed, size)]);

export const digestOfBytes = (bytes: Uint8Array): Digest =>
  `sha256:${createHash('sha256').update(bytes).digest('hex')}`;

const descriptor = (mediaType: string, bytes: Buffer) => ({
  mediaType,
  digest: digestOfBytes(bytes),
  size: bytes.length,
});

/** The manifest of an image of these blobs; `more` are further fields of it. */
export const imageManifest = (config: Buffer, layers: readonly Buffer[], more: object = {}): Buffer =>
  Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: MediaType.ociManifest,
      config: descriptor(MediaType.ociConfig, config),
      layers: layers.map((layer) => descriptor(MediaType.ociLayerGzip, layer)),
      ...more,
    }),
  );

const PIECE = 64 * KIB;

function* pieces(bytes: Buffer, start: number, end: number): Generator<Buffer> {
  for (let at = start; at < end; at += PIECE) yield bytes.subarray(at, Math.min(end, at + PIECE));
}

/** A blob that is known from the start. */
export function knownBody(bytes: Buffer): ReadableBlob {
  const identity = { digest: digestOfBytes(bytes), size: bytes.length };
  return {
    identity,
    reach: async () => ({ available: bytes.length, ended: true }),
    completed: async () => identity,
    read: (start, end) => Readable.from(pieces(bytes, start, end)),
  };
}

/** A blob that is made while it is sent: `grow` and `end` say how far it is. */
export class GrowingBody implements ReadableBlob {
  identity: BlobIdentity | undefined;
  readonly bytes: Buffer;
  #available = 0;
  #failure: Error | undefined;
  #waiting: (() => void)[] = [];

  constructor(bytes: Buffer) {
    this.bytes = bytes;
  }

  grow(available: number): void {
    this.#available = available;
    this.#wake();
  }

  end(): void {
    this.#available = this.bytes.length;
    this.identity = { digest: digestOfBytes(this.bytes), size: this.bytes.length };
    this.#wake();
  }

  fail(error: Error): void {
    this.#failure = error;
    this.#wake();
  }

  async reach(bytes: number): Promise<Reach> {
    await this.#until(() => this.#available >= bytes || this.identity !== undefined);
    return { available: this.#available, ended: this.identity !== undefined };
  }

  async completed(): Promise<BlobIdentity> {
    await this.#until(() => this.identity !== undefined);
    return this.identity!;
  }

  read(start: number, end: number): Readable {
    if (end > this.#available) throw new Error(`bytes up to ${end} were asked for, there are ${this.#available}`);
    return Readable.from(pieces(this.bytes, start, end));
  }

  async #until(reached: () => boolean): Promise<void> {
    while (!reached()) {
      if (this.#failure !== undefined) throw this.#failure;
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    }
  }

  #wake(): void {
    for (const resolve of this.#waiting.splice(0)) resolve();
  }
}

/** A client of one registry, and what it told. */
export interface Client {
  readonly registry: Registry;
  readonly events: RegistryEvent[];
}

export function connect(host: string, options: Partial<RegistryOptions> = {}): Client {
  const events: RegistryEvent[] = [];
  const registry = new Registry({
    host,
    insecure: true,
    chunkSize: MIB,
    maxRetries: 3,
    clock: quickClock(),
    onEvent: (event) => events.push(event),
    ...options,
  });
  return { registry, events };
}

/** Options of an upload that most tests need. */
export const plain = (label = 'layer'): { signal: AbortSignal; label: string } => ({
  signal: new AbortController().signal,
  label,
});
