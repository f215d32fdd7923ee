/** A process of its own that makes a layer of so many bytes and prints the most memory that it held, bytes. Run by memory.test.ts. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import type { Compression } from '../../src/blob/compress/compression.ts';
import { CompressorPool } from '../../src/blob/compress/pool.ts';
import { Spool } from '../../src/blob/spool.ts';
import { compressLayer } from '../../src/blob/streaming.ts';
import { contentOf } from '../support/content.ts';

const [compression, bytes] = process.argv.slice(2);
const pool = new CompressorPool({ compression: compression as Compression, level: 1, threads: 2 });
const dir = mkdtempSync(join(tmpdir(), 'chunked-push-peak-'));
const spool = await Spool.open(dir);
const input = Readable.from(contentOf('mixed', 'peak', Number(bytes)), { highWaterMark: 1 });
const layer = compressLayer(input, { pool, spool, signal: new AbortController().signal });
await layer.completed();
await layer.release();
await pool.close();
await spool.close();
rmSync(dir, { recursive: true });
console.log(process.resourceUsage().maxRSS * 1024);
