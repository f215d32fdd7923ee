/** Counts what an upload sends and how long it waits. */
import type { Readable } from 'node:stream';
import { now } from '../../clock.ts';
import type { BlobBody } from '../body.ts';
import type { RequestBody } from '../exchange.ts';
import type { Piece } from './verdict.ts';

export class Traffic {
  /** Bytes of bodies that were handed to the network, in all tries. */
  bytesSent = 0;
  /** Milliseconds of all requests from their first byte to the last one of their body. */
  sendingMs = 0;
  /** Milliseconds of all requests from the last byte of their body to their answer or their end. */
  waitedMs = 0;
  /** Bytes of the last body that were taken before it ended or broke. */
  taken = 0;
  #sentAt: number | undefined;
  readonly #onSent: ((end: number) => void) | undefined;

  /** `onSent` hears the offset in the blob up to which a body was handed to the network. */
  constructor(onSent?: (end: number) => void) {
    this.#onSent = onSent;
  }

  /** A body for the transport; each opening of it reads the same bytes anew. */
  metered(body: BlobBody, piece: Piece): RequestBody {
    return { size: piece.end - piece.start, open: () => this.#count(body.read(piece.start, piece.end), piece.start) };
  }

  /** Takes the time of one request. */
  async timed<T>(request: () => Promise<T>): Promise<T> {
    const start = now();
    this.taken = 0;
    this.#sentAt = undefined;
    try {
      return await request();
    } finally {
      const sentAt = this.#sentAt ?? (this.taken > 0 ? now() : start);
      this.sendingMs += sentAt - start;
      this.waitedMs += now() - sentAt;
    }
  }

  #count<Body extends Readable | Buffer>(body: Body, start: number): Body {
    this.taken = 0;
    const took = ({ length }: Buffer): void => {
      this.taken += length;
      this.bytesSent += length;
      this.#onSent?.(start + this.taken);
    };
    const ended = (): void => {
      this.#sentAt = now();
    };
    if (body instanceof Uint8Array) {
      took(body);
      ended();
    } else body.on('data', took).once('end', ended);
    return body;
  }
}
