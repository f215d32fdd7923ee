/** How an engine's image is read where there are no FIFOs, tried here with the same tools. */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { ImageError } from '../../../src/common/error.ts';
import { startFileExport } from '../../../src/source/engine/file-export.ts';
import { inspectImage, isFound } from '../../../src/source/engine/inspect.ts';
import { saveStream } from '../../../src/source/engine/save.ts';
import type { StreamSource } from '../../../src/source/source.ts';
import { buildImage } from '../../support/images.ts';
import { describeWith, sharedDocker } from '../../support/real/suite.ts';
import { hashOf } from '../fixtures.ts';
import { bytesOf, failureOf, never, ownTemporaryFolder } from './exports.ts';

const folder = ownTemporaryFolder();

describe('an export through a file', () => {
  /** A tool that gets `--output FILE` as its last arguments. */
  const tool = (script: string) => {
    const path = join(folder.path, 'tool');
    writeFileSync(path, `#!/bin/sh\nwhile [ $# -gt 1 ]; do shift; done\n${script}\n`, { mode: 0o755 });
    return startFileExport('docker save', [path, 'save', 'image'], process.env);
  };

  it('reads every byte after the tool has ended', async () => {
    const exporter = await tool('head -c 1000000 /dev/zero >"$1"; sleep 0.2; head -c 2000000 /dev/zero >>"$1"');
    expect((await hashOf(bytesOf(exporter))).size).toBe(3_000_000);
    expect(exporter.input.over).toBe(true);
    await exporter.finished;
    await exporter.stop();
  });

  it("reports the tool's own words when it fails, and that the disk must hold the image", async () => {
    const exporter = await tool('echo "Error response from daemon: no space left on device" >&2; exit 3');
    const failure = await failureOf(exporter.finished);
    expect(failure).toBeInstanceOf(ImageError);
    expect((failure as Error).message).toContain('docker save failed with exit code 3: no space left on device');
    expect((failure as ImageError).remedy).toContain('room for the whole image');
    expect(await failureOf(exporter.input.fill(new Uint8Array(10)))).toBe(failure);
    await exporter.stop();
  });

  it('reports a tool that is not there', async () => {
    const exporter = await startFileExport('docker save', [join(folder.path, 'nothing')], process.env);
    expect(await failureOf(exporter.finished)).toMatchObject({
      message: expect.stringContaining('could not be started'),
    });
    await exporter.stop();
  });

  it('ends the tool when it is stopped, and leaves nothing', async () => {
    const exporter = await tool(`echo $$ >"${'$'}{1%/*}/../pid"; : >"$1"; exec sleep 1000`);
    const pid = () =>
      existsSync(join(folder.path, 'pid')) ? Number(readFileSync(join(folder.path, 'pid'), 'utf8')) : 0;
    await expect.poll(pid).toBeGreaterThan(0);
    expect(existsSync(`/proc/${pid()}`)).toBe(true);
    await exporter.stop();
    expect(existsSync(`/proc/${pid()}`)).toBe(false);
    expect(await failureOf(exporter.finished)).toMatchObject({ message: 'docker save was stopped' });
    await exporter.stop();
  });
});

describeWith(['docker'], "docker's image on a system without FIFOs", () => {
  const blobs = async (source: StreamSource) => {
    const found: string[] = [];
    for await (const { name, body } of source.blobs()) found.push(`${name} ${(await hashOf(body)).hash}`);
    return found.sort();
  };

  it('is the same as through a FIFO, and the log says which way it came', async () => {
    const engine = await sharedDocker({ version: 'debian', store: 'overlay2' });
    const env = { ...process.env, ...engine.env };
    const name = 'file-export:1';
    await buildImage({ command: 'docker', env: engine.env }, name, { seed: name, layers: [{ bytes: 200_000 }] });
    const image = await inspectImage('docker', name, { env, signal: never });
    if (!isFound(image)) throw new Error(image.message);
    const notices: string[] = [];
    const options = { signal: never, debug: () => {}, notice: (line: string) => notices.push(line) };
    const byFifo = await blobs(await saveStream(image, options));
    expect(notices).toEqual([]);
    expect(await blobs(await saveStream(image, options, 'win32'))).toEqual(byFifo);
    expect(byFifo.length).toBeGreaterThan(0);
    expect(notices).toEqual([
      expect.stringMatching(/^Windows has no FIFO: docker save writes all of the image to a temporary/),
    ]);
  });
});
