import { fork } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, it, onTestFinished } from 'vitest';
import { isAbandoned, makePrivateFolder, ownName, removeAbandoned } from '../../src/blob/private-folder.ts';
import { Spool } from '../../src/blob/spool.ts';
import { newFolder } from './layers.ts';

const program = fileURLToPath(new URL('../support/owner.ts', import.meta.url));

/** A process that has made a spool in a folder, and the spool's path. */
async function owner(folder: string) {
  const child = fork(program, [folder], { execArgv: [] });
  onTestFinished(() => void child.kill('SIGKILL'));
  const [path] = (await once(child, 'message')) as [string];
  const kill = async () => {
    child.kill('SIGKILL');
    await once(child, 'exit');
  };
  return { path, kill };
}

const modeOf = (path: string): string => (statSync(path).mode & 0o777).toString(8);

it('folders are made for this user alone, whatever the umask, and one that was open to others is closed', async () => {
  const umask = process.umask(0);
  onTestFinished(() => void process.umask(umask));
  const folder = newFolder();
  expect(await makePrivateFolder(join(folder, 'a/b'))).toEqual({ made: true });
  expect(await makePrivateFolder(join(folder, 'a/b'))).toEqual({ made: false });
  expect([modeOf(join(folder, 'a')), modeOf(join(folder, 'a/b'))]).toEqual(['700', '700']);
  mkdirSync(join(folder, 'open'), { mode: 0o775 });
  await makePrivateFolder(join(folder, 'open'));
  expect(modeOf(join(folder, 'open'))).toBe('700');
  writeFileSync(join(folder, 'file'), '');
  await expect(makePrivateFolder(join(folder, 'file'))).rejects.toThrow('EEXIST');
});

it('what a link leads to and a folder that users share keep their modes', async () => {
  const folder = newFolder();
  mkdirSync(join(folder, 'disk'));
  chmodSync(join(folder, 'disk'), 0o755);
  symlinkSync(join(folder, 'disk'), join(folder, 'link'));
  expect(await makePrivateFolder(join(folder, 'link'))).toEqual({ made: false });
  expect(modeOf(join(folder, 'disk'))).toBe('755');
  mkdirSync(join(folder, 'shared'));
  chmodSync(join(folder, 'shared'), 0o1777);
  await makePrivateFolder(join(folder, 'shared'));
  expect(modeOf(join(folder, 'shared'))).toBe('777');
});

it('the spools of killed pushes are removed by the next push at once, those of running ones are not', async () => {
  const folder = newFolder();
  const [running, killed] = [await owner(folder), await owner(folder)];
  await killed.kill();
  expect(existsSync(killed.path)).toBe(true);
  const spool = await Spool.open(join(folder, ownName('spool-')));
  expect(readdirSync(folder).toSorted()).toEqual([basename(running.path), basename(spool.dir)].toSorted());
  await running.kill();
  await removeAbandoned(folder, 'spool-');
  expect(readdirSync(folder)).toEqual([basename(spool.dir)]);
  await spool.close();
  expect(readdirSync(folder)).toEqual([]);
});

it('what another machine or an older version left is removed after a day, and other names are left alone', async () => {
  const folder = newFolder();
  const elsewhere = ownName('spool-').replace(/-[0-9a-f]{8}-/, '-00000000-');
  const reused = ownName('spool-').replace(/^spool-\d+-\d+-/, `spool-${process.ppid}-1-`);
  for (const name of [elsewhere, reused, 'spool-4711', 'layers']) mkdirSync(join(folder, name));
  await removeAbandoned(folder, 'spool-');
  // The number of this process's parent, but not its start: it was given out again.
  expect(readdirSync(folder).toSorted()).toEqual([elsewhere, 'layers', 'spool-4711'].toSorted());
  const yesterday = Date.now() / 1000 - 25 * 60 * 60;
  for (const name of readdirSync(folder)) utimesSync(join(folder, name), yesterday, yesterday);
  await removeAbandoned(folder, 'spool-');
  expect(readdirSync(folder)).toEqual(['layers']);
  await removeAbandoned(join(folder, 'missing'), 'spool-');
});

it('a name of this process is not abandoned', async () => {
  const path = join(newFolder(), ownName('note.'));
  expect(await isAbandoned(path, 'note.')).toBe(false);
  expect(ownName()).not.toBe(ownName());
});
