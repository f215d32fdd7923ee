import { execFileSync } from 'node:child_process';
import {
  closeSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { componentsOf, Folder, StoreError } from '../../../../src/source/store/files/folder.ts';

let base: string;
let layer: Folder;
beforeEach(() => {
  base = mkdtempSync(join(tmpdir(), 'chunked-push-folder-'));
  mkdirSync(join(base, 'layer/sub/deep'), { recursive: true });
  mkdirSync(join(base, 'outside'));
  writeFileSync(join(base, 'outside/secret'), 'secret');
  writeFileSync(join(base, 'layer/sub/deep/file'), 'inside');
  layer = Folder.at(join(base, 'layer'));
});
afterEach(() => {
  layer.close();
  rmSync(base, { recursive: true, force: true });
});

const openFds = () => readdirSync('/proc/self/fd').length;

describe('a folder of a store', () => {
  it.each(['sub/deep/file', './sub//deep/./file', '/sub/deep/file'])('opens %s', async (name) => {
    for (const opened of [await layer.file(name), layer.fileNow(name)]) {
      expect(readFileSync(opened.fd, 'utf8')).toBe('inside');
      expect(opened.size).toBe(6);
      closeSync(opened.fd);
    }
  });

  it('never leaves the folder by ..', async () => {
    await expect(layer.file('../outside/secret')).rejects.toThrow('leads out of its folder');
    await expect(layer.file('sub/../../outside/secret')).rejects.toThrow(StoreError);
    expect(() => componentsOf('a/\0b')).toThrow(StoreError);
  });

  it.each([
    ['a link as the file', 'link', 'outside/secret', 'link'],
    ['a link among the folders', 'sub/link', 'outside', 'sub/link/secret'],
    ['a link that stays inside', 'inner', 'layer/sub', 'inner/deep/file'],
  ])('follows no link: %s', async (_, place, target, name) => {
    symlinkSync(join(base, target), join(base, 'layer', place));
    await expect(layer.file(name)).rejects.toThrow(StoreError);
    expect(() => layer.fileNow(name)).toThrow(StoreError);
  });

  it('opens nothing but regular files', async () => {
    execFileSync('mkfifo', [join(base, 'layer/pipe')]);
    await expect(layer.file('pipe')).rejects.toThrow('is not a regular file');
    await expect(layer.file('sub')).rejects.toThrow('is not a regular file');
    await expect(layer.file('')).rejects.toThrow('is not a file');
    // A device stands for those that do things when they are opened.
    const devices = Folder.at('/dev');
    await expect(devices.file('null')).rejects.toThrow('is not a regular file');
    devices.close();
  });

  it('says what is missing', async () => {
    const error = await layer.file('sub/none').catch((reason) => reason);
    expect(error).toBeInstanceOf(StoreError);
    expect(error.missing).toBe(true);
    expect(error.denied).toBe(false);
    expect(error.message).toContain(join(base, 'layer/sub/none'));
    expect(() => Folder.at(join(base, 'none'))).toThrow(StoreError);
    expect(() => layer.folder('none')).toThrow(StoreError);
  });

  it('holds few of many folders open, and none when it is closed', async () => {
    const before = openFds();
    const names = Array.from({ length: 300 }, (_, i) => `d${i}`);
    for (const name of names) {
      mkdirSync(join(base, 'layer', name));
      writeFileSync(join(base, 'layer', name, 'f'), name);
    }
    const many = Folder.at(join(base, 'layer'));
    for (const name of names) {
      const { fd } = await many.file(`${name}/f`);
      expect(readFileSync(fd, 'utf8')).toBe(name);
      closeSync(fd);
      expect(openFds()).toBeLessThan(before + 80);
    }
    many.close();
    expect(openFds()).toBe(before);
    await expect(many.file('d1/f')).rejects.toThrow('was closed');
  });

  it('opens files side by side', async () => {
    const names = Array.from({ length: 200 }, (_, i) => `s${i}/f`);
    for (const name of names) {
      mkdirSync(join(base, 'layer', name, '..'), { recursive: true });
      writeFileSync(join(base, 'layer', name), name);
    }
    const texts = await Promise.all(
      names.map(async (name) => {
        const { fd } = await layer.file(name);
        const text = readFileSync(fd, 'utf8');
        closeSync(fd);
        return text;
      }),
    );
    expect(texts).toEqual(names);
  });
});
