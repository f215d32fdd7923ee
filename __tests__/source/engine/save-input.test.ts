import { mkdtempSync, rmSync } from 'node:fs';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { SocketInput } from '../../../src/source/engine/save.ts';
import { randomBelow } from '../../support/random.ts';

let work: string;
let server: Server;
beforeEach(() => {
  work = mkdtempSync(join(tmpdir(), 'chunked-push-input-'));
});
afterEach(async () => {
  await new Promise((resolve) => server.close(resolve));
  rmSync(work, { recursive: true, force: true });
});

/** An input whose other side is this. */
async function inputFrom(serve: (socket: Socket) => void): Promise<SocketInput> {
  const path = join(work, 'socket');
  server = createServer((socket) => serve(socket.on('error', () => {})));
  await new Promise<void>((resolve) => server.listen(path, resolve));
  return new SocketInput((onread) => connect({ path, onread }));
}

const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

describe('an input from a socket', () => {
  it('gives the bytes as they came, whatever the sizes of writes and reads', async () => {
    const random = randomBelow('socket input');
    const bytes = Buffer.from(Array.from({ length: 3_000_000 }, () => random(256)));
    const input = await inputFrom(async (socket) => {
      for (let at = 0; at < bytes.length; ) {
        const length = 1 + random(random(2) ? 100 : 200_000);
        socket.write(bytes.subarray(at, at + length));
        at += length;
        if (random(4) === 0) await pause(1);
      }
      socket.end();
    });
    const parts: Buffer[] = [];
    for (let ended = false; !ended; ) {
      const block = Buffer.alloc(1 + random(random(2) ? 600 : 300_000));
      const count = await input.fill(block);
      ended = count < block.length;
      parts.push(block.subarray(0, count));
      if (random(8) === 0) await pause(1);
    }
    expect(Buffer.concat(parts).equals(bytes)).toBe(true);
    expect(input.over).toBe(true);
    expect(await input.fill(Buffer.alloc(1))).toBe(0);
    await input.ended;
  });

  it('never writes into a block that was given out full', async () => {
    const written = Promise.withResolvers<void>();
    const input = await inputFrom((socket) => socket.end(Buffer.alloc(200_000, 1), () => written.resolve()));
    const block = new Uint8Array(100_000);
    expect(await input.fill(block)).toBe(100_000);
    // As the compressor's blocks go to another thread.
    block.buffer.transfer();
    // Whatever comes of the rest meanwhile goes elsewhere.
    await written.promise;
    for (let n = 0; n < 10; n++) await turn();
    const next = new Uint8Array(200_000);
    expect(await input.fill(next)).toBe(100_000);
    expect(next.subarray(0, 100_000).every((byte) => byte === 1)).toBe(true);
  });

  it('makes the other side wait while nobody reads', async () => {
    const writtenTo: number[] = [];
    const input = await inputFrom((socket) => {
      const place = writtenTo.push(0) - 1;
      const more = () =>
        socket.write(Buffer.alloc(64_000), (error) => {
          writtenTo[place]! += 64_000;
          if (!error && writtenTo[place]! < 60_000_000) more();
        });
      more();
    });
    await input.fill(Buffer.alloc(10));
    // What fits into the buffers on the way may come; ten times as much goes to another reader meanwhile.
    const reader = new SocketInput((onread) => connect({ path: join(work, 'socket'), onread }));
    await reader.fill(Buffer.alloc(50_000_000));
    reader.destroy();
    expect(writtenTo[0]).toBeLessThan(5_000_000);
    await input.fill(Buffer.alloc(10_000_000));
    expect(writtenTo[0]).toBeGreaterThan(9_000_000);
    input.destroy();
  });

  it('tells whoever waits, and whoever comes later, that it broke off', async () => {
    const input = await inputFrom((socket) => socket.write('abc'));
    const waiting = input.fill(Buffer.alloc(10));
    await turn();
    input.destroy(new Error('no more'));
    await expect(waiting).rejects.toThrow('no more');
    await expect(input.fill(Buffer.alloc(10))).rejects.toThrow('no more');
    await expect(input.ended).rejects.toThrow('no more');
    expect(input.over).toBe(true);
  });

  it('rejects when nobody is there', async () => {
    server = createServer();
    const input = new SocketInput((onread) => connect({ path: join(work, 'nobody'), onread }));
    await expect(input.fill(Buffer.alloc(1))).rejects.toThrow(/ENOENT/);
  });
});
