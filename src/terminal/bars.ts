/** Live rows on a terminal: one for each blob on its way and one for all; lines of what ended stay above them. */
import cliProgress, { type MultiBar, type SingleBar } from 'cli-progress';
import { now } from '../clock.ts';
import type { PushEvent } from '../push/events.ts';
import { type Line, LineTeller } from '../report/lines.ts';
import { type Moving, Progress } from '../report/progress.ts';
import { blobRow, totalRow } from './row.ts';

/** Rows of the terminal that are not for blobs: the total, the last line above, the cursor's own. */
const OTHER_ROWS = 3;
const MOST_ROWS = 12;

/** For a stream that does not tell its size. */
const USUAL_SIZE = { columns: 80, rows: 24 } as const;

/** Clears the rows below, and lets the terminal wrap a long line, which cli-progress turns off for its rows. */
const BEFORE_LINE = '\x1b[J\x1b[?7h';
const AFTER_LINE = '\n\x1b[?7l';

const keyOf = ({ host, label }: { host: string; label: string }): string => `${host} ${label}`;

export class Bars {
  readonly #stream: NodeJS.WriteStream;
  readonly #options: { readonly showHost: boolean; readonly verbose: boolean };
  readonly #teller: LineTeller;
  readonly #progress = new Progress();
  /** When blobs that failed are tried again, in ms of `now`. */
  readonly #pauses = new Map<string, number>();
  readonly #rows = new Map<string, SingleBar>();
  #multi: MultiBar | undefined;

  constructor(stream: NodeJS.WriteStream, options: { showHost: boolean; verbose: boolean }) {
    this.#stream = stream;
    this.#options = options;
    // The rows tell the progress.
    this.#teller = new LineTeller({ showHost: options.showHost, now: () => 0 });
  }

  tell(event: PushEvent): void {
    this.#progress.note(event);
    if (event.type === 'retry') this.#pauses.set(keyOf(event), now() + event.waitMs);
    if (event.type === 'blob-progress' || event.type === 'blob-end') this.#pauses.delete(keyOf(event));
    // How far a blob has come is seen by its row.
    if (event.type !== 'blob-progress') for (const line of this.#teller.tell(event)) this.#write(line);
    if (event.type === 'blob-start' || event.type === 'blob-end') this.#arrange();
  }

  /** As many rows as there are blobs and room; none at all when nothing moves. */
  #arrange(): void {
    const { moving } = this.#progress;
    if (moving.length === 0) {
      this.close();
      return;
    }
    const multi = this.#open();
    const room = Math.max(1, Math.min(MOST_ROWS, (this.#stream.rows || USUAL_SIZE.rows) - OTHER_ROWS));
    const shown = moving.slice(0, room).map(keyOf);
    for (const [key, row] of this.#rows) {
      if (shown.includes(key)) continue;
      multi.remove(row);
      this.#rows.delete(key);
    }
    for (const key of shown) if (!this.#rows.has(key)) this.#rows.set(key, multi.create(1, 0, { key }));
  }

  #open(): MultiBar {
    if (this.#multi) return this.#multi;
    this.#multi = new cliProgress.MultiBar(
      {
        stream: this.#stream,
        format: (_, __, { key }: { key: string }) => this.#row(key),
        hideCursor: true,
        clearOnComplete: true,
        forceRedraw: true,
        // A signal cancels the push, and its end closes the rows.
        gracefulExit: false,
      },
      cliProgress.Presets.legacy,
    );
    this.#multi.create(1, 0, { key: '' });
    return this.#multi;
  }

  #row(key: string): string {
    const columns = this.#stream.columns || USUAL_SIZE.columns;
    const { moving } = this.#progress;
    const blob = moving.find((one) => keyOf(one) === key);
    const until = this.#pauses.get(key);
    if (blob) return blobRow(blob, this.#name(blob), until && until - now(), columns);
    const hidden = moving.length - this.#rows.size;
    return totalRow(this.#progress, hidden > 0 ? `total (${hidden} more)` : 'total'.padEnd(12), columns);
  }

  #name({ label, host }: Moving): string {
    return this.#options.showHost ? `${label} ${host}` : label.padEnd(12);
  }

  #write({ level, text }: Line): void {
    if (level === 'debug' && !this.#options.verbose) return;
    const line = `${level === 'info' || level === 'debug' ? '' : `${level}: `}${text}`;
    if (this.#multi) this.#multi.log(`${BEFORE_LINE}${line}${AFTER_LINE}`);
    else this.#stream.write(`${line}\n`);
  }

  /** Takes the rows away; lines that were not written yet are. */
  close(): void {
    this.#multi?.update();
    this.#multi?.stop();
    this.#multi = undefined;
    this.#rows.clear();
  }
}
