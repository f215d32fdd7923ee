import { execFileSync } from 'node:child_process';
import { Readable } from 'node:stream';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { afterEach, describe, expect, it } from 'vitest';
import { ImageError } from '../../src/common/error.ts';
import { blobFormat, type Compression, decompress, HEAD_BYTES } from '../../src/source/compression.ts';
import { tarOf } from './fixtures.ts';

const tool = (command: string, input: Buffer, ...args: string[]) =>
  execFileSync(command, args, { input, maxBuffer: 2 ** 28 });
const content = Buffer.from(Array.from({ length: 300_000 }, (_, at) => (at * at) % 253));
const halves = [content.subarray(0, 123_457), content.subarray(123_457)] as const;

/** RFC 8878, 3.1.2: a frame that decoders skip. */
function skippable(bytes: number): Buffer {
  const frame = Buffer.alloc(8 + bytes, 0xab);
  frame.writeUInt32LE(0x184d2a53, 0);
  frame.writeUInt32LE(bytes, 4);
  return frame;
}

const zstd = (bytes: Buffer): Buffer => zstdCompressSync(bytes);
const several = (pack: (bytes: Buffer) => Buffer) => Buffer.concat(halves.map(pack));

const PACKED: readonly [string, Compression, Buffer][] = [
  ['gzip', 'gzip', gzipSync(content)],
  ['gzip of two members', 'gzip', several((bytes) => gzipSync(bytes))],
  ['zstd', 'zstd', zstd(content)],
  ['zstd of two frames', 'zstd', several(zstd)],
  [
    'zstd with frames to skip',
    'zstd',
    Buffer.concat([skippable(0), several(zstd), skippable(700), zstd(Buffer.alloc(0))]),
  ],
  ['xz', 'xz', tool('xz', content, '-c')],
  ['xz of two streams', 'xz', several((bytes) => tool('xz', bytes, '-c'))],
  ['bzip2', 'bzip2', tool('bzip2', content, '-c')],
  ['bzip2 of two streams', 'bzip2', several((bytes) => tool('bzip2', bytes, '-c'))],
];

async function unpacked(bytes: Buffer, compression: Compression): Promise<Buffer> {
  // Small pieces: a frame's end and its header lie in different ones.
  const pieces = Array.from({ length: Math.ceil(bytes.length / 997) }, (_, at) =>
    bytes.subarray(at * 997, (at + 1) * 997),
  );
  const chunks: Buffer[] = [];
  for await (const chunk of decompress(Readable.from(pieces, { objectMode: false }), compression)) chunks.push(chunk);
  return Buffer.concat(chunks);
}

describe('content in every compression', () => {
  it.each(PACKED)('%s is told by its first bytes and comes out as it was', async (_, compression, bytes) => {
    expect(blobFormat(bytes.subarray(0, HEAD_BYTES))).toBe(compression);
    expect((await unpacked(bytes, compression)).equals(content)).toBe(true);
  });

  it.each(PACKED)('%s that is cut off is an error', async (_, compression, bytes) => {
    const end = bytes.lastIndexOf(skippable(700).subarray(0, 8));
    await expect(unpacked(bytes.subarray(0, end > 0 ? end - 3 : bytes.length - 3), compression)).rejects.toThrow();
  });

  it('refuses a frame to skip that is longer than the file', async () => {
    await expect(unpacked(skippable(700).subarray(0, 500), 'zstd')).rejects.toThrow('a skippable frame');
  });

  it('goes on by what a tool says', async () => {
    await expect(unpacked(Buffer.from('no archive at all'), 'xz')).rejects.toThrow(/xz: .*format not recognized/);
  });
});

describe('a machine without the tools', () => {
  const { PATH } = process.env;
  afterEach(() => {
    process.env.PATH = PATH;
  });

  it('says which one is needed', async () => {
    process.env.PATH = '/nonexistent';
    for (const [name, compression, bytes] of PACKED.filter(([, one]) => one === 'xz' || one === 'bzip2')) {
      const error = await unpacked(bytes, compression).catch((reason: unknown) => reason);
      expect(error, name).toBeInstanceOf(ImageError);
      expect((error as ImageError).remedy).toMatch(/install (xz|bzip2) .*or compress with gzip or zstd/);
    }
  });
});

describe('tar files', () => {
  it('are told by their magic, by the checksum of older ones, and by nothing but zeros', async () => {
    const tar = await tarOf([{ name: 'a', body: 'text' }]);
    expect(blobFormat(tar.subarray(0, HEAD_BYTES))).toBe('tar');
    const label = tool('tar', Buffer.alloc(0), '-V', 'a label', '-cf', '-', '-T', '/dev/null').subarray(0, HEAD_BYTES);
    expect(label.toString('latin1', 257, 262)).not.toBe('ustar');
    expect(blobFormat(label)).toBe('tar');
    label[20] = 7;
    expect(blobFormat(label)).toBe('other');
    expect(blobFormat(Buffer.alloc(HEAD_BYTES))).toBe('tar');
    expect(blobFormat(Buffer.alloc(0))).toBe('other');
    expect(blobFormat(Buffer.from('BZh9, a text that begins so'))).toBe('other');
  });
});

it('zstd with a window that takes too much memory is refused, with what to do', async () => {
  // `content` as `zstd --ultra -22 --long=31` writes it: a window of 2 GiB (RFC 8878, 3.1.1.1.2).
  const frame = Buffer.from('28b52ffd04a8390000636f6e74656e74fca9c531', 'hex');
  const refused = decompress(Readable.from([frame]), 'zstd').next();
  await expect(refused).rejects.toThrow(ImageError);
  await expect(refused).rejects.toMatchObject({ remedy: expect.stringContaining('--long=27') });
});
