import { createHash, randomBytes } from 'node:crypto';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { findDocument, LocalFiles, type StoreFiles } from '../../../../src/source/store/files/files.ts';
import { StoreError } from '../../../../src/source/store/files/folder.ts';
import { startHelper } from '../../../../src/source/store/helper/client.ts';
import { writeLayer } from '../layers-on-disk.ts';

const collect = async (stream: AsyncIterable<Buffer>): Promise<Buffer> => {
  const chunks: Buffer[] = [];
  for await (const chunk of stream) chunks.push(chunk);
  return Buffer.concat(chunks);
};

const sha = (bytes: Buffer) => createHash('sha256').update(bytes).digest('hex');

const varied = (small: number): Record<string, Buffer> => ({
  empty: Buffer.alloc(0),
  'big/one': randomBytes(5_000_001),
  ...Object.fromEntries(Array.from({ length: small }, (_, i) => [`small/${i % 50}/f${i}`, randomBytes(i % 2500)])),
  'edge/65536': randomBytes(65_536),
  'edge/65537': randomBytes(65_537),
  'edge/block': randomBytes(512 * 1024),
  last: randomBytes(1),
});

const openFds = () => readdirSync('/proc/self/fd').length;

const signal = new AbortController().signal;
const ways: Record<string, (root: string) => Promise<StoreFiles>> = {
  'by this process': async (root) => new LocalFiles([root]),
  // The very helper, without sudo before it: what it may read is then what this process may.
  'by the helper': (root) => startHelper([root], { env: process.env, signal, prefix: [] }),
};

for (const [way, start] of Object.entries(ways)) {
  describe(`files of a store, read ${way}`, () => {
    let root: string;
    let files: StoreFiles;
    const layer = () => files.layer(join(root, 'tar-split.json.gz'), join(root, 'diff'));
    beforeEach(async () => {
      root = mkdtempSync(join(tmpdir(), 'chunked-push-files-'));
      files = await start(root);
    });
    afterEach(async () => {
      await files.close();
      rmSync(root, { recursive: true, force: true });
    });

    it('puts a layer together, again and again', async () => {
      const whole = writeLayer(root, varied(3000));
      const reads = await Promise.all([collect(layer()), collect(layer()), collect(layer())]);
      for (const bytes of reads) expect(sha(bytes)).toBe(sha(whole));
    });

    it('gives an empty layer', async () => {
      writeLayer(root, {});
      expect(await collect(layer())).toHaveLength(0);
    });

    it('gives any range of a file', async () => {
      const bytes = randomBytes(3_000_000);
      writeFileSync(join(root, 'blob'), bytes);
      expect(await files.size(join(root, 'blob'))).toBe(bytes.length);
      const ranges = [
        [0, 1],
        [0, 0],
        [524_287, 524_289],
        [1_000_000, 2_999_999],
        [2_999_999, 3_000_000],
      ] as const;
      for (const [from, to] of ranges) {
        expect(sha(await collect(files.range(join(root, 'blob'), from, to)))).toBe(sha(bytes.subarray(from, to)));
      }
      expect(sha(await collect(files.range(join(root, 'blob'))))).toBe(sha(bytes));
      expect(await collect(files.range(join(root, 'blob'), 2_999_998))).toEqual(bytes.subarray(2_999_998));
      await expect(collect(files.range(join(root, 'blob'), 0, 3_000_001))).rejects.toThrow('ends at 3000000 bytes');
    });

    it.each([
      ['is gone', 'cannot read', (path: string) => rmSync(path)],
      ['is shorter', "the layer's tar had", (path: string) => truncateSync(path, 5)],
      ['is longer', "the layer's tar had", (path: string) => truncateSync(path, 900_000)],
      [
        'became a link',
        'is not a regular file',
        (path: string) => {
          rmSync(path);
          symlinkSync('/etc/hostname', path);
        },
      ],
    ])('fails when a file of the layer %s', async (_, words, spoil) => {
      for (const name of ['small/1/f1', 'big/one']) {
        writeLayer(root, varied(20));
        spoil(join(root, 'diff', name));
        const error = await collect(layer()).catch((reason) => reason);
        expect(error).toBeInstanceOf(StoreError);
        expect(error.message).toContain(words);
        expect(error.path).toContain(name);
      }
    });

    it('fails when the record of the tar is broken', async () => {
      writeLayer(root, varied(20));
      truncateSync(join(root, 'tar-split.json.gz'), 300);
      await expect(collect(layer())).rejects.toThrow(StoreError);
      writeFileSync(join(root, 'tar-split.json.gz'), 'no gzip');
      await expect(collect(layer())).rejects.toThrow(StoreError);
    });

    it('tells what is missing from what cannot be read', async () => {
      expect(await findDocument(files, join(root, 'none'))).toBeUndefined();
      await expect(files.bytes(join(root, 'none'))).rejects.toMatchObject({ missing: true });
      mkdirSync(join(root, 'folder'));
      await expect(findDocument(files, join(root, 'folder'))).rejects.toThrow('is not a regular file');
    });

    it('reads below its roots alone, and follows no link out of them', async () => {
      symlinkSync('/etc', join(root, 'link'));
      for (const path of ['/etc/hostname', join(root, '../x'), root, join(root, 'link/hostname')]) {
        await expect(files.bytes(path)).rejects.toThrow(StoreError);
      }
    });

    it('lets other streams pass one that nobody reads, and stops those that are dropped', async () => {
      const whole = writeLayer(root, varied(20));
      const before = openFds();
      const slow = layer();
      await new Promise((resolve) => slow.once('readable', resolve));
      const dropped = layer();
      await new Promise((resolve) => dropped.once('readable', resolve));
      dropped.destroy();
      expect(sha(await collect(layer()))).toBe(sha(whole));
      expect(slow.readableLength).toBeLessThan(3 * 2 ** 20);
      slow.destroy();
      // The root itself and its folder stay open until the end.
      await expect.poll(openFds).toBeLessThanOrEqual(before + 2);
    });
  });
}
