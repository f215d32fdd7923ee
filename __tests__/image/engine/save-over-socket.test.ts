import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type RequestListener, type Server } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { ArchiveStream } from '../../../src/image/archive/stream.ts';
import { saveOverSocket } from '../../../src/image/engine/save-over-socket.ts';
import { DOCKER28, fixture, readAll } from '../fixtures.ts';

let work: string;
let server: Server | undefined;
beforeEach(() => {
  work = mkdtempSync(join(tmpdir(), 'chunked-push-engine-'));
});
afterEach(async () => {
  server?.closeAllConnections();
  await new Promise((resolve) => (server ? server.close(resolve) : resolve(undefined)));
  server = undefined;
  rmSync(work, { recursive: true, force: true });
});

/** An engine that answers so. Node's server knows HTTP/1.0 as Docker's does: no chunks, and it closes. */
async function engine(answer: RequestListener): Promise<string> {
  const path = join(work, 'docker.sock');
  server = createServer(answer);
  await new Promise<void>((resolve) => server?.listen(path, resolve));
  return path;
}

const cancel = new AbortController();
const stream = (path: string, signal = cancel.signal) => {
  const { config: imageId, diffIds } = DOCKER28;
  const exporter = saveOverSocket(path, imageId);
  return { exporter, source: new ArchiveStream('docker save', exporter, { name: 'fx:one', imageId, diffIds }, signal) };
};
const archive = fixture('docker28-overlay2.tar');

describe('an export over the socket of the engine', () => {
  it('asks for the image by its ID and gives its blobs', async () => {
    let asked = '';
    const path = await engine((request, response) => {
      asked = `${request.method} ${decodeURIComponent(request.url ?? '')} ${request.httpVersion}`;
      response.write(archive.subarray(0, 5000));
      setTimeout(() => response.end(archive.subarray(5000)), 50);
    });
    const { source, exporter } = stream(path);
    const blobs = await readAll(source);
    expect(asked).toBe(`GET /images/get?names=${DOCKER28.config} 1.0`);
    expect(new Set(blobs.map(({ hash }) => hash))).toEqual(new Set(DOCKER28.diffIds));
    expect(source.tree()).toMatchObject({ kind: 'composed', diffIds: DOCKER28.diffIds });
    await exporter.finished;
  });

  it("gives the engine's own words when it refuses", async () => {
    const path = await engine((_, response) =>
      response.writeHead(500).end('{"message":"write /var/lib/docker/tmp: no space left on device"}\n'),
    );
    const message = 'docker save failed: write /var/lib/docker/tmp: no space left on device';
    await expect(readAll(stream(path).source)).rejects.toMatchObject({ name: 'ImageError', step: 'Export', message });
  });

  it.each([
    ['in the middle of a file', 5000],
    ['between two files', 3072],
    ['before the end mark', archive.length - 1024],
  ])('fails when the engine dies %s', async (_, bytes) => {
    const path = await engine((request, response) => {
      response.write(archive.subarray(0, bytes), () => setTimeout(() => request.socket.end(), 20));
    });
    await expect(readAll(stream(path).source)).rejects.toMatchObject({
      name: 'ImageError',
      message: expect.stringMatching(/ends/),
    });
  });

  it('fails when the engine dies before it answers, and when it is not there', async () => {
    const path = await engine((request) => request.socket.destroy());
    await expect(readAll(stream(path).source)).rejects.toMatchObject({ name: 'ImageError' });
    const nobody = stream(join(work, 'nobody')).source;
    await expect(readAll(nobody)).rejects.toMatchObject({
      name: 'ImageError',
      message: expect.stringMatching(/ENOENT/),
    });
  });

  it('is over at once when it is cancelled, whether or not the engine has answered', async () => {
    for (const begin of [0, 3000]) {
      let gone = false;
      const path = await engine((request, response) => {
        request.socket.once('close', () => {
          gone = true;
        });
        if (begin > 0) response.write(archive.subarray(0, begin));
      });
      const controller = new AbortController();
      const reason = new Error('cancelled by a test');
      setTimeout(() => controller.abort(reason), 50);
      const began = performance.now();
      await expect(readAll(stream(path, controller.signal).source)).rejects.toBe(reason);
      expect(performance.now() - began).toBeLessThan(2000);
      for (let tries = 0; tries < 100 && !gone; tries++) await new Promise((resolve) => setTimeout(resolve, 10));
      expect(gone).toBe(true);
      await new Promise((resolve) => server?.close(resolve));
      server = undefined;
    }
  });
});
