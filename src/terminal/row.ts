/** One row of a live display: bar, percent, bytes, rate, time left, as much of it as the terminal is wide. */
import { formatBytes, formatPercent, formatSeconds } from '../report/format.ts';
import { type Moving, type Progress, timeLeft } from '../report/progress.ts';

/** A bar longer than this says no more, a shorter one nothing. Columns. */
const LONGEST_BAR = 30;
const SHORTEST_BAR = 8;

/** A blob on its way; `pauseMs` is left until it is tried again after a failure, whose reason has a line of its own. */
export function blobRow(blob: Moving, name: string, pauseMs: number | undefined, columns: number): string {
  return laidOut(columns, name, share(blob.sent, blob.size), pauseMs === undefined ? pace(blob) : pauseWords(pauseMs));
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
  readonly words: string;
}

function share(sent: number, size: number | undefined): Share {
  if (size === undefined) return { part: undefined, words: `${formatBytes(sent)} sent` };
  // Sent is not confirmed: 100 percent is for what has arrived, and its row is gone by then.
  const percent = sent >= size ? '99%' : formatPercent(sent, size);
  const part = size === 0 ? 1 : Math.min(1, sent / size);
  return { part, words: `${percent.padStart(3)}  ${formatBytes(sent)} of ${formatBytes(size)}` };
}

function pace({ sent, confirmed, size, rate }: Pick<Moving, 'sent' | 'confirmed' | 'size' | 'rate'>): string {
  if (size !== undefined && sent >= size && confirmed < size) return 'waiting for the registry';
  const left = size === undefined ? 'being read' : timeLeft(size - sent, rate);
  return [rate > 0 ? `${formatBytes(rate)}/s` : '', left].filter((text) => text !== '').join('  ');
}

const pauseWords = (ms: number): string => (ms > 0 ? `trying again in ${formatSeconds(ms / 1000)}` : 'trying again');

/** The bar takes what the words leave; without enough room for it there are only words. */
function laidOut(columns: number, name: string, { part, words }: Share, end: string): string {
  const text = [words, end].filter((one) => one !== '').join('  ');
  const room = Math.min(LONGEST_BAR, columns - name.length - text.length - 6);
  if (room < SHORTEST_BAR) return clip(columns, `${name}  ${text}`);
  return clip(columns, `${name} ${bar(part, room)}  ${text}`);
}

function bar(part: number | undefined, length: number): string {
  const full = part === undefined ? 0 : Math.round(part * length);
  const rest = part === undefined ? '·' : ' ';
  return `[${'='.repeat(full)}${rest.repeat(length - full)}]`;
}

/** The last column stays free: some terminals wrap when it is written. */
const clip = (columns: number, text: string): string => (text.length < columns ? text : text.slice(0, columns - 1));
