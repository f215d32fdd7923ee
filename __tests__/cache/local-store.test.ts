import { fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readdir, readFile, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, it, onTestFinished } from 'vitest';
import { LocalStore } from '../../src/cache/local-store.ts';
import { digestOf } from '../../src/oci/types.ts';
import { testLayer } from '../support/cache-runner.ts';

const FORMAT = { compression: 'gzip', level: 6 } as const;

async function folder(): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), 'local-store-'));
  onTestFinished(() => rm(dir, { recursive: true, force: true }));
  return dir;
}

it('processes that write, read and prune one folder at the same time never see a part of a file', async () => {
  const dir = await folder();
  const program = fileURLToPath(new URL('../support/cache-writer.ts', import.meta.url));
  const writers = ['1', '2', '3', '4'].map((seed) => fork(program, [dir, seed], { execArgv: [] }));
  const codes = await Promise.all(writers.map(async (writer) => (await once(writer, 'exit'))[0]));
  expect(codes).toEqual([0, 0, 0, 0]);
  const store = new LocalStore(dir, FORMAT);
  const known = await store.known();
  expect(known.length).toBeGreaterThan(0);
  for (const layer of known) {
    const path = await store.hold(layer);
    if (path) expect(digestOf(await readFile(path))).toBe(layer.descriptor.digest);
  }
});

it('a note is replaced by a newer one, and notes come newest first', async () => {
  const dir = await folder();
  const store = new LocalStore(dir, FORMAT);
  const [a, b] = [testLayer(100), testLayer(100)];
  await store.note(a);
  const notes = join(dir, 'v1/gzip-6/known');
  for (const name of await readdir(notes)) await utimes(join(notes, name), 1000, 1000);
  await store.note(b);
  expect((await store.known()).map(({ diffId }) => diffId)).toEqual([b.diffId, a.diffId]);
  await store.note({ ...a, descriptor: b.descriptor });
  expect(await store.known()).toHaveLength(2);
  expect((await store.known()).find(({ diffId }) => diffId === a.diffId)?.descriptor).toEqual(b.descriptor);
});

it('the folder of a process that was killed is removed after a day, a living one is left alone', async () => {
  const dir = await folder();
  const [dead, living] = [new LocalStore(dir, FORMAT), new LocalStore(dir, FORMAT)];
  await Promise.all([dead.make(), living.make()]);
  await writeFile(join(dead.session, 'part'), 'x');
  const yesterday = Date.now() / 1000 - 25 * 60 * 60;
  await utimes(dead.session, yesterday, yesterday);
  await new LocalStore(dir, FORMAT).make();
  await expect(stat(dead.session)).rejects.toThrow('ENOENT');
  expect((await stat(living.session)).isDirectory()).toBe(true);
});

it('a file is taken over from another folder, and a foreign or broken note is passed over', async () => {
  const dir = await folder();
  const store = new LocalStore(dir, FORMAT);
  const layer = testLayer(1000);
  const spool = join(await folder(), 'spool');
  await writeFile(spool, layer.blob);
  expect(await readFile(await store.adopt(spool, layer))).toEqual(layer.blob);
  await expect(stat(spool)).rejects.toThrow('ENOENT');
  await writeFile(join(dir, 'v1/gzip-6/known/x.json'), '{"version":1,"layers":[{}]}');
  await writeFile(join(dir, 'v1/gzip-6/known/y.json'), '{"ver');
  expect(await store.known()).toEqual([]);
});
