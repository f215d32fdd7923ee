import { fork } from 'node:child_process';
import { once } from 'node:events';
import { chmod, chown, mkdir, mkdtemp, readdir, readFile, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
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

it('the folder of a process that was killed is removed, a living one is left alone, and one of an unknown owner for a day', async () => {
  const dir = await folder();
  const living = new LocalStore(dir, FORMAT);
  await living.make();
  const dead = await killedWith(dir);
  const [old, young] = ['old', 'young'].map((name) => join(dir, 'tmp', name));
  for (const path of [old!, young!]) await mkdir(path);
  const yesterday = Date.now() / 1000 - 25 * 60 * 60;
  for (const path of [old!, living.session]) await utimes(path, yesterday, yesterday);
  expect(await readdir(join(dir, 'tmp'))).toHaveLength(4);
  await new LocalStore(dir, FORMAT).make();
  await expect(stat(dead)).rejects.toThrow('ENOENT');
  await expect(stat(old!)).rejects.toThrow('ENOENT');
  for (const path of [young!, living.session]) expect((await stat(path)).isDirectory()).toBe(true);
});

/** Has a process make a store's folders and kills it. Returns what its session's folder was. */
async function killedWith(dir: string): Promise<string> {
  const child = fork(fileURLToPath(new URL('../support/owner.ts', import.meta.url)), [dir, 'cache'], {
    execArgv: [],
  });
  const [session] = await once(child, 'message');
  child.kill('SIGKILL');
  await once(child, 'exit');
  expect((await stat(session)).isDirectory()).toBe(true);
  return session;
}

it('all that it keeps is readable by its owner alone, also in folders that an earlier version made for everybody', async () => {
  const dir = join(await folder(), 'cache');
  await mkdir(join(dir, 'v1/gzip-6/layers'), { recursive: true, mode: 0o755 });
  const store = new LocalStore(dir, FORMAT);
  const layer = testLayer(100);
  await store.note(layer);
  const file = join(dir, 'made');
  await writeFile(file, 'x', { mode: 0o600 });
  await store.adopt(file, layer);
  await store.hold(layer);
  for (const entry of await readdir(dir, { recursive: true, withFileTypes: true })) {
    const path = join(entry.parentPath, entry.name);
    const isInside = /^(v1\/gzip-6\/|tmp)/.test(relative(dir, path));
    if (isInside) expect([path, (await stat(path)).mode & 0o077]).toEqual([path, 0]);
  }
  expect((await stat(dir)).mode & 0o777).toBe(0o700);
});

it.runIf(process.getuid?.() === 0)('a folder of another user in a folder for everybody is not used', async () => {
  const shared = await folder();
  await chmod(shared, 0o1777);
  const dir = join(shared, 'chunked-push');
  const layer = testLayer(100);
  await new LocalStore(dir, FORMAT).note(layer);
  expect(await new LocalStore(dir, FORMAT).known()).toHaveLength(1);
  await chown(dir, 12345, 12345);
  await expect(new LocalStore(dir, FORMAT).known()).rejects.toThrow('belongs to another user (uid 12345)');
  await expect(new LocalStore(dir, FORMAT).make()).rejects.toThrow('it is not used');
  // A job that runs partly in a container: the folder above is nobody else's.
  await chmod(shared, 0o700);
  expect(await new LocalStore(dir, FORMAT).known()).toHaveLength(1);
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
