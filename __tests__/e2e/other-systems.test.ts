/**
 * The command as it decides on Windows and macOS: dist with a stand-in for the name of the system. What Windows would name below
 * drive C is here a file of that name in the current folder, since Linux takes a backslash for a letter.
 */
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { writeDockerArchive } from '../support/images.ts';
import { type Registry, startRegistry } from '../support/registry/server.ts';
import { runCommand } from '../support/terminal.ts';

const [username, password] = ['pusher', 'right'];

let folder: string;
let registry: Registry;

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'chunked-push-systems-'));
  registry = await startRegistry({ auth: { basic: { username, password } } });
});

afterEach(async () => {
  await registry.close();
  rmSync(folder, { recursive: true });
});

const credentials = (secret: string): string =>
  JSON.stringify({ auths: { [registry.host]: { auth: Buffer.from(`${username}:${secret}`).toString('base64') } } });

/** Pushes an archive; gives what was printed. */
const pushAs = (system: NodeJS.Platform, archive: string, env: Readonly<Record<string, string>> = {}) => {
  const standIn = `data:text/javascript,Object.defineProperty(process,'platform',{value:'${system}'})`;
  return runCommand([`docker-archive:${archive}:app:1`, '--to', `${registry.host}/team/app:1`], {
    env: { HOME: folder, NODE_OPTIONS: `--import=${standIn}`, ...env },
  });
};

const write = (name: string) =>
  writeDockerArchive(join(folder, name), 'app:1', { seed: 'app', layers: [{ bytes: 100_000 }] });

/** The kept layers below a cache. */
const kept = (cache: string): readonly string[] => {
  const formats = join(folder, cache, 'v1');
  return readdirSync(formats).flatMap((format) => readdirSync(join(formats, format, 'layers')));
};

describe('on Windows', () => {
  it('reads paths of a drive, logs in as %USERPROFILE% says, and keeps layers in %LOCALAPPDATA%', async () => {
    await write('C:\\images\\app.tar');
    writeFileSync(join(folder, 'C:\\Users\\me\\.docker\\config.json'), credentials(password));
    // Git's shell sets HOME as well.
    mkdirSync(join(folder, '.docker'));
    writeFileSync(join(folder, '.docker/config.json'), credentials('wrong'));
    const { exitCode, stdout, stderr } = await pushAs('win32', 'C:\\images\\app.tar', {
      USERPROFILE: 'C:\\Users\\me',
      LocalAppData: 'C:\\Users\\me\\AppData\\Local',
    });
    expect(exitCode, stderr).toBe(0);
    expect(stdout).toMatch(/^\S+\/team\/app@sha256:[0-9a-f]{64}\n$/);
    expect(kept('C:\\Users\\me\\AppData\\Local\\chunked-push\\cache')).toHaveLength(1);
  });

  it('names the whole path of an archive that is not there', async () => {
    const { exitCode, stderr } = await pushAs('win32', 'D:\\none.tar', { USERPROFILE: 'C:\\Users\\me' });
    expect(exitCode).toBe(1);
    expect(stderr).toContain('the archive D:\\none.tar does not exist');
  });
});

describe('on macOS', () => {
  it('logs in as ~/.docker says, and keeps layers in ~/Library/Caches', async () => {
    await write('app.tar');
    mkdirSync(join(folder, '.docker'));
    writeFileSync(join(folder, '.docker/config.json'), credentials(password));
    const { exitCode, stderr } = await pushAs('darwin', 'app.tar');
    expect(exitCode, stderr).toBe(0);
    expect(kept('Library/Caches/chunked-push')).toHaveLength(1);
  });
});
