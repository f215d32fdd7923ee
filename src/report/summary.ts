/** The job summary: the pinned reference to copy, what happened to each layer, and what was saved. GitHub-flavoured Markdown. */
import { shortDigest } from '../push/image-blobs.ts';
import type { Metadata, PushResult } from '../push/result.ts';
import type { BlobRecord } from '../push/stats.ts';
import { formatBytes, formatSeconds, plural } from './format.ts';

/** More rows than this are no overview; the rest is in the `metadata` output. A summary may have 1 MiB. */
const MAX_ROWS = 60;

/** The summary of a push, also of one that reached only some of its destinations. */
export function summaryOf(result: PushResult): string {
  const { metadata } = result;
  const parts = [
    '### Chunked push',
    headline(result),
    tagTable(metadata),
    metadata.blobs.length > 0 ? blobTable(metadata.blobs, new Set(metadata.blobs.map((b) => b.registry)).size > 1) : '',
    pie(metadata.blobs),
    totals(metadata),
  ];
  return `${parts.filter((part) => part !== '').join('\n\n')}\n`;
}

function headline({ image, failures }: PushResult): string {
  if (image) return `\`\`\`\n${image}\n\`\`\``;
  return failures.length > 0 ? 'Nothing was pushed.' : 'Dry run: nothing was changed.';
}

/** A table cell can't hold the table's own separator, nor the start of an HTML tag. */
const cell = (text: string): string => text.replaceAll('|', '\\|').replaceAll('<', '&lt;').replaceAll('\n', ' ');

const table = (head: readonly string[], rows: readonly (readonly string[])[]): string =>
  [head, head.map(() => '---'), ...rows].map((row) => `| ${row.map(cell).join(' | ')} |`).join('\n');

function tagTable({ tags }: Metadata): string {
  const rows = tags.map(({ reference, digest, error }) => [
    reference,
    digest ? `\`${digest}\`` : (error ?? 'not pushed'),
  ]);
  return table(['tag', 'digest'], rows);
}

const FATE_WORDS = { uploaded: 'uploaded', exists: 'existed', mounted: 'mounted' } as const;

function blobTable(blobs: readonly BlobRecord[], withRegistry: boolean): string {
  const shown = blobs.slice(0, MAX_ROWS);
  const rows = shown.map((blob) => [
    `\`${shortDigest(blob.digest)}\``,
    formatBytes(blob.size),
    `${FATE_WORDS[blob.what]}${blob.fromCache ? ' from the cache' : ''}`,
    blob.what === 'uploaded' ? formatSeconds(blob.seconds) : '',
    blob.retries > 0 ? String(blob.retries) : '',
    ...(withRegistry ? [blob.registry] : []),
  ]);
  const head = ['blob', 'size', 'what happened', 'time', 'retries', ...(withRegistry ? ['registry'] : [])];
  const rest = blobs.length - shown.length;
  return table(head, rows) + (rest > 0 ? `\n\n… and ${plural(rest, 'more blob')}` : '');
}

type Share = readonly [name: string, bytes: number];

function shares(blobs: readonly BlobRecord[]): Share[] {
  const sum = (isOf: (blob: BlobRecord) => boolean) => blobs.filter(isOf).reduce((bytes, { size }) => bytes + size, 0);
  const all: Share[] = [
    ['uploaded', sum((blob) => blob.what === 'uploaded' && !blob.fromCache)],
    ['uploaded from the cache', sum((blob) => blob.what === 'uploaded' && blob.fromCache)],
    ['existed', sum((blob) => blob.what === 'exists')],
    ['mounted', sum((blob) => blob.what === 'mounted')],
  ];
  return all.filter(([, bytes]) => bytes > 0);
}

/** A pie of one slice tells nothing. Mermaid renders on GitHub. */
function pie(blobs: readonly BlobRecord[]): string {
  const slices = shares(blobs);
  if (slices.length < 2) return '';
  const lines = slices.map(([name, bytes]) => `  "${name} (${formatBytes(bytes)})" : ${bytes}`);
  return ['```mermaid', 'pie title Bytes of this image', ...lines, '```'].join('\n');
}

function totals(metadata: Metadata): string {
  const { bytesSent, bytesResent, seconds, limits, blobs } = metadata;
  const spared = blobs.filter(({ what }) => what !== 'uploaded').reduce((bytes, { size }) => bytes + size, 0);
  const resent = bytesResent > 0 ? `, ${formatBytes(bytesResent)} of them again after failures` : '';
  const lines = [`- ${formatBytes(bytesSent)} sent in ${formatSeconds(seconds.total)}${resent}`];
  if (spared > 0) lines.push(`- ${formatBytes(spared)} did not have to be sent`);
  const cached = blobs.filter(({ fromCache }) => fromCache).reduce((bytes, { size }) => bytes + size, 0);
  if (cached > 0) lines.push(`- ${formatBytes(cached)} came compressed out of the cache`);
  for (const [host, bytes] of Object.entries(limits)) {
    lines.push(`- ${host} takes requests of at most ${formatBytes(bytes)} (\`chunk-size: ${bytes}\`)`);
  }
  return lines.join('\n');
}
