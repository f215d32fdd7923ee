/** Blobs over HTTP. distribution-spec v1.1, sections "Pulling blobs" and "Deleting Blobs". */
import { type Answer, answer, refusal } from './answer.ts';
import type { Exchange } from './exchange.ts';
import type { Desk, Handler } from './handler.ts';
import type { Step } from './steps.ts';

const unknown = (): Answer => refusal(404, 'BLOB_UNKNOWN', 'blob unknown to registry');

const headersOf = (digest: string, size: number): Record<string, string> => ({
  'Content-Type': 'application/octet-stream',
  'Docker-Content-Digest': digest,
  'Accept-Ranges': 'bytes',
  'Content-Length': String(size),
});

/** The first range that a `bytes=` header asks for as [start, end); null when none fits. RFC 9110 section 14.1.2. */
function requestedRange(header: string, size: number): [number, number] | null {
  const match = /^bytes=(\d*)-(\d*)$/.exec(header);
  if (match === null || (match[1] === '' && match[2] === '')) return null;
  if (match[1] === '') return [Math.max(0, size - Number(match[2])), size];
  const start = Number(match[1]);
  const end = match[2] === '' ? size : Math.min(size, Number(match[2]) + 1);
  return start < size && start < end ? [start, end] : null;
}

async function get(exchange: Exchange, desk: Desk): Promise<Answer> {
  const { repository, reference } = exchange.route;
  const size = await desk.store.blobSize(repository, reference);
  if (size === undefined) return unknown();
  const file = desk.store.blobPath(reference);
  const asked = exchange.headers.range;
  if (asked === undefined || exchange.method === 'HEAD') {
    return { status: 200, headers: headersOf(reference, size), body: { file, start: 0, end: size } };
  }
  const range = requestedRange(asked, size);
  if (range === null) return answer(416, { 'Content-Range': `bytes */${size}` });
  const [start, end] = range;
  const headers = { ...headersOf(reference, end - start), 'Content-Range': `bytes ${start}-${end - 1}/${size}` };
  return { status: 206, headers, body: { file, start, end } };
}

const remove: Handler = async (exchange, desk) =>
  (await desk.store.removeBlob(exchange.route.repository, exchange.route.reference)) ? answer(202) : unknown();

export const blobHandlers: Partial<Record<Step, Handler>> = {
  'blob-head': get,
  'blob-get': get,
  'blob-delete': remove,
};
