/** How far a push has come, blob by blob and in all: bytes sent, rate, time left. */
import { now as clock } from '../common/async.ts';
import type { PushEvent } from '../push/events.ts';
import { formatBytes, formatPercent, formatSeconds } from './format.ts';

/** A blob on its way to a registry. */
export interface Moving {
  readonly label: string;
  readonly host: string;
  /** Bytes handed to the network, and of them those that the registry has confirmed. */
  readonly sent: number;
  readonly confirmed: number;
  /** Bytes; undefined while it is still being made. */
  readonly size: number | undefined;
  /** Bytes a second. */
  readonly rate: number;
}

interface Entry {
  readonly label: string;
  readonly host: string;
  readonly pace: Rate;
  sent: number;
  confirmed: number;
  size: number | undefined;
}

export class Progress {
  readonly #now: () => number;
  readonly #pace: Rate;
  readonly #moving = new Map<string, Entry>();
  /** Bytes of blobs that have arrived. */
  #arrived = 0;
  #made = { read: 0, written: 0 };

  /** `now` returns milliseconds. */
  constructor(now: () => number = clock) {
    this.#now = now;
    this.#pace = new Rate(now);
  }

  note(event: PushEvent): void {
    if (event.type === 'made') this.#made = { read: event.read, written: event.written };
    if (event.type === 'blob-start') this.#begin(event);
    if (event.type === 'blob-progress') this.#move(event);
    if (event.type === 'blob-end') this.#end(event);
  }

  #begin({ label, host, size }: Extract<PushEvent, { type: 'blob-start' }>): void {
    const pace = new Rate(this.#now);
    pace.note(0);
    this.#pace.note(this.sent);
    this.#moving.set(keyOf(host, label), { label, host, pace, sent: 0, confirmed: 0, size });
  }

  #move({ label, host, sent, confirmed, size }: Extract<PushEvent, { type: 'blob-progress' }>): void {
    const blob = this.#moving.get(keyOf(host, label));
    if (!blob) return;
    Object.assign(blob, { sent, confirmed, size });
    blob.pace.note(sent);
    this.#pace.note(this.sent);
  }

  #end({ label, host, fate, size }: Extract<PushEvent, { type: 'blob-end' }>): void {
    // What was there already is no progress of this push: it would spoil the rate.
    if (this.#moving.delete(keyOf(host, label)) && fate === 'uploaded') this.#arrived += size;
    this.#pace.note(this.sent);
  }

  /** The blobs on their way, in the order in which they began. */
  get moving(): readonly Moving[] {
    return [...this.#moving.values()].map(({ pace, ...blob }) => ({ ...blob, rate: pace.value }));
  }

  /** All that has been sent, as it stands. */
  get sent(): number {
    return this.#sum(({ sent }) => sent);
  }

  get confirmed(): number {
    return this.#sum(({ confirmed }) => confirmed);
  }

  #sum(bytes: (entry: Entry) => number): number {
    return [...this.#moving.values()].reduce((sum, entry) => sum + bytes(entry), this.#arrived);
  }

  /** Bytes of all blobs that have begun to move; undefined while one of them is still being made. */
  get total(): number | undefined {
    const entries = [...this.#moving.values()];
    if (entries.some(({ size }) => size === undefined)) return undefined;
    return this.#sum(({ size = 0 }) => size);
  }

  /** Bytes a second, of all blobs together. */
  get rate(): number {
    return this.#pace.value;
  }

  /** Plain bytes read and compressed bytes made. */
  get made(): { readonly read: number; readonly written: number } {
    return this.#made;
  }

  /** One line: what is sent of how much, rate, time left. While layers are still being made, how far that is. */
  line(): string {
    const { sent, confirmed, total, rate } = this;
    const pace = rate > 0 ? `, ${formatBytes(rate)}/s` : '';
    if (total === undefined) {
      const { read, written } = this.#made;
      return `${formatBytes(sent)} sent${pace}, ${formatBytes(read)} read, ${formatBytes(written)} compressed so far`;
    }
    if (total > 0 && sent >= total && confirmed < total) {
      return `${formatBytes(total)} sent, waiting for the registry to confirm ${formatBytes(total - confirmed)}`;
    }
    const left = timeLeft(total - sent, rate);
    return `${formatPercent(sent, total)} of ${formatBytes(total)} sent${pace}${left === '' ? '' : `, ${left}`}`;
  }
}

const keyOf = (host: string, label: string): string => `${host} ${label}`;

/** `12 s left`; nothing when it can't be said. `bytes` are still to go at `rate` bytes a second. */
export const timeLeft = (bytes: number, rate: number): string =>
  rate > 0 && bytes > 0 ? `${formatSeconds(Math.max(1, Math.round(bytes / rate)))} left` : '';

// How fast bytes go, over the last seconds: an average since the start would still show the fast first half of a
// push.

/**
 * Long enough to bridge the wait between two chunks, short enough to notice a link that has become slow. Milliseconds.
 */
const WINDOW_MS = 10_000;

/** Samples nearer than this add nothing. Milliseconds. */
const SAMPLE_MS = 200;

interface Sample {
  readonly at: number;
  readonly bytes: number;
}

export class Rate {
  readonly #now: () => number;
  #samples: Sample[] = [];

  /** `now` returns milliseconds. */
  constructor(now: () => number) {
    this.#now = now;
  }

  /** Notes how many bytes have gone in all; fewer than before when bytes must be sent again. */
  note(bytes: number): void {
    const at = this.#now();
    const samples = this.#samples;
    if (samples.length > 1 && at - samples.at(-2)!.at < SAMPLE_MS) samples.pop();
    samples.push({ at, bytes });
    // The sample before the window's begin stays: it says where the window began.
    while (samples.length > 2 && at - samples[1]!.at >= WINDOW_MS) samples.shift();
  }

  /** Bytes a second; 0 while that can't be said. */
  get value(): number {
    const [first] = this.#samples;
    const last = this.#samples.at(-1);
    if (!first || !last) return 0;
    const seconds = (this.#now() - first.at) / 1000;
    return seconds > 0 ? Math.max(0, last.bytes - first.bytes) / seconds : 0;
  }
}
