/** Live rows on a terminal: one for each blob on its way and one for all; lines of what ended stay above them. */

import { styleText } from 'node:util';
import cliProgress, { type MultiBar, type SingleBar } from 'cli-progress';
import { now } from '../common/async.ts';
import { printable } from '../common/printable.ts';
import type { PushEvent } from '../push/events.ts';
import { formatBytes, formatPercent, formatSeconds } from '../report/format.ts';
import { EventLines, type Line } from '../report/lines.ts';
import { type Moving, Progress, timeLeft } from '../report/progress.ts';

/** Rows of the terminal that are not for blobs: the total, the last line above, the cursor's own. */
const OTHER_ROWS = 3;
const MOST_ROWS = 12;

/** `layer 3/6 a1b2c3d4e5f6` */
const NAME_COLUMNS = 22;

/** For a stream without a size. */
const USUAL_SIZE = { columns: 80, rows: 24 } as const;

/** Clears the rows below, and lets the terminal wrap a long line, which cli-progress turns off for its rows. */
const BEFORE_LINE = '\x1b[J\x1b[?7h';
const AFTER_LINE = '\n\x1b[?7l';

const keyOf = ({ host, label }: { host: string; label: string }): string => `${host} ${label}`;

export class Bars {
  readonly #stream: NodeJS.WriteStream;
  readonly #options: { readonly showHost: boolean; readonly verbose: boolean };
  readonly #lines: EventLines;
  readonly #progress = new Progress();
  /** When blobs that failed are tried again, in ms of `now`. */
  readonly #pauses = new Map<string, number>();
  readonly #rows = new Map<string, SingleBar>();
  #multi: MultiBar | undefined;

  constructor(stream: NodeJS.WriteStream, options: { showHost: boolean; verbose: boolean }) {
    this.#stream = stream;
    this.#options = options;
    // The rows show the progress.
    this.#lines = new EventLines({ showHost: options.showHost, now: () => 0 });
  }

  show(event: PushEvent): void {
    this.#progress.note(event);
    if (event.type === 'retry') this.#pauses.set(keyOf(event), now() + event.waitMs);
    if (event.type === 'blob-progress' || event.type === 'blob-end') this.#pauses.delete(keyOf(event));
    // How far a blob has come is seen by its row.
    if (event.type !== 'blob-progress') for (const line of this.#lines.of(event)) this.#write(line);
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
    if (blob) return blobRow(blob, printable(this.#name(blob)), until && until - now(), columns);
    const hidden = moving.length - this.#rows.size;
    return totalRow(this.#progress, hidden > 0 ? `total (${hidden} more)` : 'total'.padEnd(NAME_COLUMNS), columns);
  }

  #name({ label, host }: Moving): string {
    return this.#options.showHost ? `${label} ${host}` : label.padEnd(NAME_COLUMNS);
  }

  #write({ level, text }: Line): void {
    if (level === 'debug' && !this.#options.verbose) return;
    const line = `${level === 'info' || level === 'debug' ? '' : `${paint(level, this.#stream)} `}${text}`;
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

// One row of a live display: bar, percent, bytes, rate, time left, as much of it as the terminal is wide.

/** A bar longer than this says no more, a shorter one nothing. Columns. */
const LONGEST_BAR = 30;
const SHORTEST_BAR = 8;

/** On a terminal that is narrower the bytes say more than a bar. Columns. */
const NARROW = 70;

/** A blob on its way; `pauseMs` is left until it is tried again after a failure, whose reason has a line of its own. */
export function blobRow(blob: Moving, name: string, pauseMs: number | undefined, columns: number): string {
  return laidOut(columns, name, share(blob.sent, blob.size), pauseMs === undefined ? pace(blob) : pauseText(pauseMs));
}

/** All blobs together. */
export function totalRow(progress: Progress, name: string, columns: number): string {
  const { sent, confirmed, total, rate, made } = progress;
  const end = pace({ sent, confirmed, size: total, rate });
  if (total !== undefined) return laidOut(columns, name, share(sent, total), end);
  return clip(columns, [name, `${formatBytes(made.read)} read, ${formatBytes(sent)} sent`, end].join('  '));
}

interface Share {
  /** From 0 to 1; undefined while the end is not known. */
  readonly part: number | undefined;
  readonly text: string;
  /** Without the bytes. */
  readonly fewer?: string;
}

function share(sent: number, size: number | undefined): Share {
  if (size === undefined) return { part: undefined, text: `${formatBytes(sent)} sent` };
  // Sent is not confirmed: 100 percent is for what has arrived, and its row is gone by then.
  const percent = sent >= size ? '99%' : formatPercent(sent, size);
  const part = size === 0 ? 1 : Math.min(1, sent / size);
  const fewer = percent.padStart(3);
  return { part, text: `${fewer}  ${formatBytes(sent)} of ${formatBytes(size)}`, fewer };
}

function pace({ sent, confirmed, size, rate }: Pick<Moving, 'sent' | 'confirmed' | 'size' | 'rate'>): string {
  if (size !== undefined && sent >= size && confirmed < size) return 'waiting for the registry';
  const left = size === undefined ? 'being read' : timeLeft(size - sent, rate);
  return [rate > 0 ? `${formatBytes(rate)}/s` : '', left].filter((text) => text !== '').join('  ');
}

const pauseText = (ms: number): string => (ms > 0 ? `trying again in ${formatSeconds(ms / 1000)}` : 'trying again');

/**
 * The bar takes what the text leaves, without the bytes where that is too little; there is none on a narrow terminal.
 */
function laidOut(columns: number, name: string, { part, text: full, fewer = full }: Share, end: string): string {
  const texts = (columns < NARROW ? [full] : [full, fewer]).map((one) =>
    [one, end].filter((text) => text !== '').join('  '),
  );
  const roomFor = (text: string) => Math.min(LONGEST_BAR, columns - name.length - text.length - 6);
  const text = texts.find((one) => roomFor(one) >= SHORTEST_BAR);
  if (text === undefined) return clip(columns, `${name}  ${texts[0]}`);
  return clip(columns, `${name} ${bar(part, roomFor(text))}  ${text}`);
}

function bar(part: number | undefined, length: number): string {
  const full = part === undefined ? 0 : Math.round(part * length);
  const rest = part === undefined ? '·' : ' ';
  return `[${'='.repeat(full)}${rest.repeat(length - full)}]`;
}

/** The last column stays free: some terminals wrap when it is written. */
const clip = (columns: number, text: string): string => (text.length < columns ? text : text.slice(0, columns - 1));

/**
 * Colours, where the stream is a terminal and NO_COLOR (https://no-color.org) is not set; util.styleText looks at both.
 */
const COLOURS = { error: 'red', warning: 'yellow', notice: 'cyan' } as const;

/** `error:`, `warning:`, `notice:` as they begin a line of a stream. */
export const paint = (level: keyof typeof COLOURS, stream: NodeJS.WritableStream): string =>
  styleText(COLOURS[level], `${level}:`, { stream });
