import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { gunzipSync } from 'node:zlib';
import { expect, it } from 'vitest';
import { layerMediaType } from '../../../src/blob/compress/compression.ts';
import { CompressorPool } from '../../../src/blob/compress/pool.ts';
import { LayerError } from '../../../src/common/error.ts';
import { unknownUser } from '../../support/real/other-user.ts';
import { bytesOf, newPool } from '../layers.ts';

it('levels are checked against what the compression has', () => {
  expect(new CompressorPool({ compression: 'gzip', level: 9 }).level).toBe(9);
  expect(() => new CompressorPool({ compression: 'gzip', level: 10 })).toThrow('gzip has no compression level 10');
  expect(new CompressorPool({ compression: 'zstd', level: 19 }).level).toBe(19);
  expect(() => new CompressorPool({ compression: 'zstd', level: 20 })).toThrow('zstd has no compression level 20');
  expect(() => new CompressorPool({ compression: 'zstd', level: 1.5 })).toThrow(LayerError);
  expect(() => new CompressorPool({ compression: 'zstd', level: 0 })).toThrow(LayerError);
});

it('the media type of a layer names its compression', () => {
  expect(layerMediaType('gzip')).toBe('application/vnd.oci.image.layer.v1.tar+gzip');
  expect(layerMediaType('zstd')).toBe('application/vnd.oci.image.layer.v1.tar+zstd');
});

it('buffers go round: as many as there are places', async () => {
  const pool = newPool({ threads: 1 });
  const plain = bytesOf('text', pool.blockBytes);
  const buffers = new Set<ArrayBuffer>();
  for (let round = 0; round < 6; round++) {
    const block = pool.block();
    buffers.add(block.buffer);
    block.set(plain);
    const packed = await pool.compress(block);
    expect(block.byteLength).toBe(0);
    expect(gunzipSync(packed).equals(plain)).toBe(true);
    pool.recycle(packed);
    expect(pool.block().buffer).toBe(packed.buffer);
    pool.recycle(packed);
  }
});

it('places are given first come, first served', async () => {
  const pool = newPool({ threads: 1 });
  const order: string[] = [];
  const enter = (name: string) => pool.enter().then(() => order.push(name));
  await Promise.all([enter('a'), enter('b'), enter('c')]);
  const waiting = [enter('d'), enter('e')];
  await new Promise((resolve) => setImmediate(resolve));
  expect(order).toEqual(['a', 'b', 'c']);
  pool.leave();
  pool.leave();
  await Promise.all(waiting);
  expect(order).toEqual(['a', 'b', 'c', 'd', 'e']);
});

it('closing rejects what is on its way and what comes after', async () => {
  const pool = newPool({ threads: 1 });
  const running = Array.from({ length: 4 }, () => pool.compress(pool.block()));
  const settled = Promise.allSettled(running);
  await pool.close();
  for (const result of await settled) expect(result).toMatchObject({ reason: { what: 'the compressor was closed' } });
  await expect(pool.compress(pool.block())).rejects.toThrow('closed');
  await pool.close();
});

it.runIf(process.platform === 'linux')(
  'compresses for an ordinary user under nice, at the priority that was asked for',
  () => {
    // Root may raise priorities.
    const user = unknownUser();
    const pool = user.path(fileURLToPath(new URL('../../../src/blob/compress/pool.ts', import.meta.url)));
    const script = `
    import { readdirSync, readFileSync } from 'node:fs';
    const { CompressorPool } = await import(${JSON.stringify(pool)});
    const pool = new CompressorPool({ compression: 'gzip', level: 1, threads: 1 });
    await pool.compress(pool.block());
    const tasks = readdirSync('/proc/self/task').map((id) => readFileSync('/proc/self/task/' + id + '/stat', 'utf8'));
    process.stdout.write(JSON.stringify([...new Set(tasks.map((stat) => Number(stat.split(') ')[1].split(' ')[16])))]));
    process.exit();
  `;
    const line = ['nice', '-n', '15', process.execPath, '--input-type=module', '--eval', script];
    const [command = '', ...args] = user.command(line);
    try {
      expect(JSON.parse(execFileSync(command, args, { encoding: 'utf8', cwd: '/' }))).toHaveLength(1);
    } finally {
      user.remove();
    }
  },
);
