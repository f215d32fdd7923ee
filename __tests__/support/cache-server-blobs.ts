/**
 * Block blobs as the cache server keeps them, on disk: Put Blob, Put Block, Put Block List, and reads with ranges.
 * https://learn.microsoft.com/rest/api/storageservices/put-block and put-block-list, get-blob
 */
import { createHash } from 'node:crypto';
import { createReadStream, createWriteStream, statSync } from 'node:fs';
import { readFile, rm, writeFile } from 'node:fs/promises';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { pipeline } from 'node:stream/promises';

export class BlobStore {
  readonly #folder: string;
  /** The sizes of the blobs that are whole: no block list, no blob. */
  readonly #sizes = new Map<string, number>();

  constructor(folder: string) {
    this.#folder = folder;
  }

  path(name: string): string {
    return join(this.#folder, name);
  }

  size(name: string): number | undefined {
    return this.#sizes.get(name);
  }

  read(name: string): Promise<Buffer> {
    return readFile(this.path(name));
  }

  /** One PUT of an upload, told apart by `comp`. Resolves to the bytes of content that came. */
  async put(name: string, query: URLSearchParams, request: IncomingMessage, response: ServerResponse): Promise<number> {
    const comp = query.get('comp');
    if (comp === 'blocklist') {
      await this.#join(name, await text(request), response);
      return 0;
    }
    const block = query.get('blockid');
    if (comp === 'block' ? !block : request.headers['x-ms-blob-type'] !== 'BlockBlob') {
      response.writeHead(400).end('not a block blob');
      return 0;
    }
    const path = comp === 'block' ? this.#block(name, block!) : this.path(name);
    await pipeline(request, createWriteStream(path));
    const size = statSync(path).size;
    if (comp !== 'block') this.#sizes.set(name, size);
    created(response);
    return size;
  }

  /** Put Block List: the blob is its blocks in the list's order, whatever the order in which they came. */
  async #join(name: string, list: string, response: ServerResponse): Promise<void> {
    const blocks = [...list.matchAll(/<(?:Latest|Uncommitted|Committed)>([^<]+)</g)].map((found) => found[1]!);
    const paths = blocks.map((block) => this.#block(name, block));
    if (paths.some((path) => !statSync(path, { throwIfNoEntry: false })))
      return void response.writeHead(400, { 'x-ms-error-code': 'InvalidBlockList' }).end();
    await writeFile(this.path(name), '');
    for (const path of paths)
      await pipeline(createReadStream(path), createWriteStream(this.path(name), { flags: 'a' }));
    for (const path of paths) await rm(path, { force: true });
    this.#sizes.set(name, statSync(this.path(name)).size);
    created(response);
  }

  #block(name: string, block: string): string {
    return join(this.#folder, `${name}.${createHash('sha256').update(block).digest('hex')}`);
  }

  /** GET and HEAD, whole or one range. `truncated`: announces all and breaks off in the middle. Resolves to the bytes sent. */
  async get(name: string, request: IncomingMessage, response: ServerResponse, truncated: boolean): Promise<number> {
    const size = statSync(this.path(name), { throwIfNoEntry: false })?.size;
    if (size === undefined || !this.#sizes.has(name)) {
      response.writeHead(404, { 'x-ms-error-code': 'BlobNotFound' }).end();
      return 0;
    }
    const range = /^bytes=(\d+)-(\d*)$/.exec(String(request.headers['x-ms-range'] ?? request.headers.range ?? ''));
    const start = Number(range?.[1] ?? 0);
    const end = Math.min(Number(range?.[2] || size - 1), size - 1);
    const headers: Record<string, string> = { 'content-length': String(end - start + 1), 'accept-ranges': 'bytes' };
    if (range) headers['content-range'] = `bytes ${start}-${end}/${size}`;
    response.writeHead(range ? 206 : 200, { etag: '"1"', ...headers });
    if (request.method === 'HEAD') {
      response.end();
      return 0;
    }
    const last = truncated ? Math.floor((start + end) / 2) : end;
    await pipeline(createReadStream(this.path(name), { start, end: last }), response, { end: !truncated });
    if (truncated) response.destroy();
    return last - start + 1;
  }
}

function created(response: ServerResponse): void {
  response
    .writeHead(201, { etag: '"1"', 'last-modified': new Date().toUTCString(), 'x-ms-request-server-encrypted': 'true' })
    .end();
}
