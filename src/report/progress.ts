/** Where a push stands: sums over the blobs that are on their way, the rate, and the time left. */
import type { PushEvent } from '../push/events.ts';
import { formatBytes, formatPercent, formatSeconds } from './format.ts';

interface Moving {
  confirmed: number;
  size: number | undefined;
  ended: boolean;
}

export class Progress {
  readonly #blobs = new Map<string, Moving>();
  readonly #now: () => number;
  #firstByteAt: number | undefined;
  #made = { read: 0, written: 0 };

  /** `now` gives milliseconds. */
  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
  }

  note(event: PushEvent): void {
    if (event.type === 'made') this.#made = { read: event.read, written: event.written };
    if (event.type === 'blob-start' || event.type === 'blob-progress') {
      const blob = this.#blob(event.host, event.label);
      blob.size = event.size ?? blob.size;
      if (event.type === 'blob-progress') blob.confirmed = event.confirmed;
      if (blob.confirmed > 0) this.#firstByteAt ??= this.#now();
    }
    if (event.type === 'blob-end') {
      const blob = this.#blob(event.host, event.label);
      // What was there already is no progress of this push: it would spoil the rate.
      if (event.fate === 'uploaded') Object.assign(blob, { confirmed: event.size, size: event.size, ended: true });
      else this.#blobs.delete(`${event.host} ${event.label}`);
    }
  }

  #blob(host: string, label: string): Moving {
    const key = `${host} ${label}`;
    const blob = this.#blobs.get(key) ?? { confirmed: 0, size: undefined, ended: false };
    this.#blobs.set(key, blob);
    return blob;
  }

  /** Bytes that registries have confirmed. */
  get sent(): number {
    return [...this.#blobs.values()].reduce((sum, { confirmed }) => sum + confirmed, 0);
  }

  /** Bytes of all blobs that move, if all of them are known. */
  get total(): number | undefined {
    const sizes = [...this.#blobs.values()].map(({ size }) => size);
    return sizes.every((size) => size !== undefined) ? sizes.reduce((sum, size) => sum + size, 0) : undefined;
  }

  /** Bytes a second since the first confirmed byte. */
  get rate(): number {
    const seconds = (this.#now() - (this.#firstByteAt ?? this.#now())) / 1000;
    return seconds > 0 ? this.sent / seconds : 0;
  }

  /** One line: what is sent of how much, rate, time left. While layers are still being made, how far that is. */
  line(): string {
    const { sent, total, rate } = this;
    const pace = rate > 0 ? `, ${formatBytes(rate)}/s` : '';
    if (total !== undefined && total > 0) {
      const left = rate > 0 && sent < total ? `, ${formatSeconds((total - sent) / rate)} left` : '';
      return `${formatPercent(sent, total)} of ${formatBytes(total)} sent${pace}${left}`;
    }
    const { read, written } = this.#made;
    return `${formatBytes(sent)} sent${pace}, ${formatBytes(read)} read, ${formatBytes(written)} compressed so far`;
  }
}
