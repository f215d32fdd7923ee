/**
 * The job summary: the pinned reference to copy, what happened to each layer, what was saved, and where the time went.
 */

import { cut, oneLine, printable } from '../common/printable.ts';
import type { Metadata, NamedBlob, PushResult } from '../push/result.ts';
import { formatBytes, formatSeconds, plural } from './format.ts';

/** More rows than this are no overview; the rest is in the `metadata` output. A summary may have 1 MiB. */
const MAX_ROWS = 60;
const MAX_TAGS = 200;

/** Enough of a Dockerfile step to recognise it. Characters. */
const STEP_CHARACTERS = 90;

/** The summary of a push in GitHub-flavoured Markdown, also of one that reached only some of its destinations. */
export function summaryOf(result: PushResult): string {
  const { metadata } = result;
  const parts = [
    '### Chunked push',
    headline(result),
    tagTable(metadata),
    blobTable(metadata.blobs),
    bars(metadata),
    totals(metadata),
  ];
  return `${parts.filter((part) => part !== '').join('\n\n')}\n`;
}

function headline({ image, failures }: PushResult): string {
  if (image) return codeBlock([image]);
  return failures.length > 0 ? 'Nothing was pushed.' : 'Dry run: nothing was changed.';
}

function tagTable({ tags }: Metadata): string {
  const shown = tags.slice(0, MAX_TAGS);
  const rows = shown.map(({ reference, digest, error }) => [code(reference), code(digest ?? error ?? 'not pushed')]);
  return table(['tag', 'digest'], rows) + andMore(tags.length - shown.length, 'tag');
}

const andMore = (count: number, what: string): string =>
  count > 0 ? `\n\n… and ${plural(count, `more ${what}`)}` : '';

const OUTCOMES = { uploaded: 'uploaded', exists: 'existed', mounted: 'mounted' } as const;

/** The largest first: they are what a push takes its time for. */
function blobTable(blobs: readonly NamedBlob[]): string {
  if (blobs.length === 0) return '';
  const withRegistry = new Set(blobs.map(({ registry }) => registry)).size > 1;
  const withStep = blobs.some(({ createdBy }) => createdBy !== undefined);
  const shown = blobs.toSorted((a, b) => b.size - a.size).slice(0, MAX_ROWS);
  const rows = shown.map((blob) => [
    code(blob.name),
    unbroken(formatBytes(blob.size)),
    whatHappened(blob),
    blob.what === 'uploaded' ? unbroken(formatSeconds(blob.seconds)) : '',
    ...(withRegistry ? [code(blob.registry)] : []),
    ...(withStep ? [code(cut(blob.createdBy ?? '', STEP_CHARACTERS))] : []),
  ]);
  const more = [...(withRegistry ? ['registry'] : []), ...(withStep ? ['made by'] : [])];
  const rest = blobs.length - shown.length;
  return table(['layer', 'size', 'what happened', 'time', ...more], rows, ' r r') + andMore(rest, 'blob');
}

/** A narrow column must not part a number and its unit. */
const unbroken = (quantity: string): string => quantity.replaceAll(' ', '&nbsp;');

function whatHappened({ what, fromCache, retries }: NamedBlob): string {
  const text = `${OUTCOMES[what]}${fromCache ? ' from the cache' : ''}`;
  return retries > 0 ? `${text}, ${plural(retries, 'retry', 'retries')}` : text;
}

/** A quantity by its parts, the parts in the order in which they are shown. */
type Share = readonly [name: string, amount: number];

/** Columns of a bar that stands for everything. */
const BAR_LENGTH = 30;

/**
 * What became of the bytes, and where the time went, as bars of characters: Markdown has no other ones that need no
 * script.
 */
function bars({ blobs, seconds }: Metadata): string {
  const bytes = byteShares(blobs);
  const times: Share[] = [
    ['waiting for the export', seconds.waitingForExport],
    ['compressing', seconds.compressing],
    ['held back by a full spool', seconds.heldBack],
    ['sending', seconds.sending],
    ['waiting for the registry', seconds.waitingForRegistry],
  ];
  const blocks = [
    chart('Bytes of the image', bytes, formatBytes),
    chart('Where the time went (summed over layers, which overlap)', times, formatSeconds),
  ].filter((lines) => lines.length > 0);
  return blocks.length === 0 ? '' : codeBlock(blocks.flatMap((lines, at) => (at === 0 ? lines : ['', ...lines])));
}

function byteShares(blobs: readonly NamedBlob[]): Share[] {
  const sum = (isOf: (blob: NamedBlob) => boolean) => blobs.filter(isOf).reduce((bytes, { size }) => bytes + size, 0);
  return [
    ['uploaded', sum((blob) => blob.what === 'uploaded' && !blob.fromCache)],
    ['uploaded from the cache', sum((blob) => blob.what === 'uploaded' && blob.fromCache)],
    ['existed', sum((blob) => blob.what === 'exists')],
    ['mounted', sum((blob) => blob.what === 'mounted')],
  ];
}

/** A part that is smaller would be a bar of 0 percent. */
const SMALLEST_SHARE = 0.005;

/** A line for each part that can be seen; no chart of one part alone, which says nothing. */
function chart(title: string, all: readonly Share[], format: (amount: number) => string): string[] {
  const total = all.reduce((sum, [, amount]) => sum + amount, 0);
  const shares = all.filter(([, amount]) => amount >= total * SMALLEST_SHARE && amount > 0);
  if (shares.length < 2) return [];
  const width = Math.max(...shares.map(([name]) => name.length));
  const lines = shares.map(([name, amount]) => {
    const length = Math.max(1, Math.round((amount / total) * BAR_LENGTH));
    const bar = '█'.repeat(length) + '·'.repeat(BAR_LENGTH - length);
    return `  ${name.padEnd(width)}  ${bar}  ${String(Math.round((amount / total) * 100)).padStart(2)}%  ${format(amount)}`;
  });
  return [title, ...lines];
}

function totals({ bytesSent, bytesResent, seconds, limits, blobs }: Metadata): string {
  const bytesOf = (isOf: (blob: NamedBlob) => boolean) =>
    blobs.filter(isOf).reduce((bytes, { size }) => bytes + size, 0);
  const resent = bytesResent > 0 ? `, ${formatBytes(bytesResent)} of them again after failures` : '';
  const lines = [`- ${formatBytes(bytesSent)} sent in ${formatSeconds(seconds.total)}${resent}`];
  const [existed, mounted] = [bytesOf(({ what }) => what === 'exists'), bytesOf(({ what }) => what === 'mounted')];
  if (existed + mounted > 0)
    lines.push(`- ${formatBytes(existed + mounted)} did not have to be sent${why(existed, mounted)}`);
  const cached = bytesOf(({ fromCache }) => fromCache);
  if (cached > 0) lines.push(`- ${formatBytes(cached)} came compressed out of the cache`);
  for (const [host, bytes] of Object.entries(limits)) {
    lines.push(`- ${code(host)} takes requests of at most ${formatBytes(bytes)} (\`chunk-size: ${bytes}\`)`);
  }
  return lines.join('\n');
}

function why(existed: number, mounted: number): string {
  if (mounted === 0) return ': the registry had it';
  if (existed === 0) return ': mounted from other repositories';
  return `: ${formatBytes(existed)} the registry had, ${formatBytes(mounted)} were mounted from other repositories`;
}

// GitHub-flavoured Markdown out of texts that may come from outside: nothing in them becomes a link, an element or a
// cell.

/**
 * A text as code: the only place of Markdown where neither addresses nor names nor HTML mean anything. Empty for an
 * empty text.
 */
export function code(text: string): string {
  const line = oneLine(text);
  if (line === '') return '';
  // The fence must be longer than any run of backticks inside, and a space keeps it apart from one at an end.
  const longest = Math.max(0, ...[...line.matchAll(/`+/g)].map(([run]) => run.length));
  const fence = '`'.repeat(longest + 1);
  const space = line.startsWith('`') || line.endsWith('`') ? ' ' : '';
  return `${fence}${space}${line}${space}${fence}`;
}

/** Lines as they are, in a block of their own; nothing in them ends it. */
const codeBlock = (lines: readonly string[]): string =>
  ['```', ...lines.map((line) => printable(line).replace(/\n|```/g, ' ')), '```'].join('\n');

/** A table; `align` has an `r` for each column of numbers. Cells are Markdown: `code` for what comes from outside. */
export const table = (head: readonly string[], rows: readonly (readonly string[])[], align = ''): string =>
  [head, head.map((_, column) => (align[column] === 'r' ? '--:' : '---')), ...rows]
    .map((row) => `| ${row.map(cell).join(' | ')} |`)
    .join('\n');

/**
 * A cell ends at a `|` that has no backslash of its own: https://github.github.com/gfm/#tables-extension- (a pair is a
 * backslash).
 */
const cell = (text: string): string =>
  text
    .replaceAll('\n', ' ')
    .replace(/(\\*)\|/g, (_, before: string) => `${before}${before.length % 2 === 1 ? '\\' : ''}\\|`);
