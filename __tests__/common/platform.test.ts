import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { homedir, tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  cacheFolder,
  colonAfterPath,
  dockerConfigFile,
  dockerSocket,
  endingSignals,
  findProgram,
  hasFifos,
  homeFolder,
  leadsOut,
  podmanAuthFiles,
  programNames,
  type System,
  socketInHost,
} from '../../src/common/platform.ts';

const UNIX = ['linux', 'darwin'] as const;

describe('the colon after a path', () => {
  const split = (text: string, system: System) => {
    const colon = colonAfterPath(text, system);
    return colon < 0 ? [text] : [text.slice(0, colon), text.slice(colon + 1)];
  };

  it.each([
    ['C:\\images\\app.tar', ['C:\\images\\app.tar']],
    ['C:\\images\\app.tar:app:1', ['C:\\images\\app.tar', 'app:1']],
    ['d:/images/app.tar:latest', ['d:/images/app.tar', 'latest']],
    ['\\\\?\\C:\\images\\app.tar:latest', ['\\\\?\\C:\\images\\app.tar', 'latest']],
    ['\\\\server\\share\\app.tar:latest', ['\\\\server\\share\\app.tar', 'latest']],
    ['images\\app.tar:latest', ['images\\app.tar', 'latest']],
    ['app.tar', ['app.tar']],
    // A folder of one letter with a tag: what Windows makes of `a:tag` is never meant.
    ['a:tag', ['a', 'tag']],
    [':tag', ['', 'tag']],
  ])('on Windows: %s', (text, parts) => {
    expect(split(text, 'win32')).toEqual(parts);
  });

  it.each(UNIX)('on %s is the first', (system) => {
    expect(split('C:\\images\\app.tar', system)).toEqual(['C', '\\images\\app.tar']);
    expect(split('/images/app.tar:app:1', system)).toEqual(['/images/app.tar', 'app:1']);
    expect(split('/images/app.tar', system)).toEqual(['/images/app.tar']);
  });
});

describe('a name inside of a folder', () => {
  it.each(['a/b.tar', 'a..b', '..a/b', './a', 'blobs/sha256/0a'])('stays there: %s', (name) => {
    for (const system of [...UNIX, 'win32'] as const) expect(leadsOut(name, system)).toBe(false);
  });

  it.each(['/etc/passwd', '../a', 'a/../../b', 'a/..'])('leads out: %s', (name) => {
    for (const system of [...UNIX, 'win32'] as const) expect(leadsOut(name, system)).toBe(true);
  });

  it.each(['C:\\Users', 'C:/Users', 'C:file', 'a\\..\\..\\b', '..\\b', '\\\\server\\share', 'file:stream'])(
    'leads out on Windows alone: %s',
    (name) => {
      expect(leadsOut(name, 'win32')).toBe(true);
      for (const system of UNIX) expect(leadsOut(name, system)).toBe(false);
    },
  );
});

describe('the folders of a user', () => {
  const windows = { USERPROFILE: 'C:\\Users\\me', HOME: '/c/Users/me', LocalAppData: 'C:\\Users\\me\\AppData\\Local' };

  it('are where docker and podman have them', () => {
    expect(homeFolder({ HOME: '/home/me' }, 'linux')).toBe('/home/me');
    expect(homeFolder(windows, 'win32')).toBe('C:\\Users\\me');
    expect(homeFolder({ UserProfile: 'C:\\Users\\me' }, 'win32')).toBe('C:\\Users\\me');
    for (const system of ['linux', 'win32'] as const) expect(homeFolder({}, system)).toBe(homedir());
  });

  it('hold what is cached in the place of the system', () => {
    expect(cacheFolder({ XDG_CACHE_HOME: '/cache' })).toBe('/cache/chunked-push');
    expect(cacheFolder({}, 'linux')).toMatch(/\/\.cache\/chunked-push$/);
    expect(cacheFolder({ HOME: '/Users/me' }, 'darwin')).toBe('/Users/me/Library/Caches/chunked-push');
    expect(cacheFolder({ HOME: '/Users/me', XDG_CACHE_HOME: '/cache' }, 'darwin')).toBe('/cache/chunked-push');
    expect(cacheFolder(windows, 'win32')).toBe('C:\\Users\\me\\AppData\\Local\\chunked-push\\cache');
    expect(cacheFolder({ USERPROFILE: 'D:\\me' }, 'win32')).toBe('D:\\me\\AppData\\Local\\chunked-push\\cache');
  });

  it('hold the credentials of docker', () => {
    expect(dockerConfigFile({ HOME: '/home/me' }, 'linux')).toBe('/home/me/.docker/config.json');
    expect(dockerConfigFile({ HOME: '/home/me', DOCKER_CONFIG: '/etc/d' }, 'linux')).toBe('/etc/d/config.json');
    expect(dockerConfigFile(windows, 'win32')).toBe('C:\\Users\\me\\.docker\\config.json');
    expect(dockerConfigFile({ ...windows, DOCKER_CONFIG: 'D:\\d' }, 'win32')).toBe('D:\\d\\config.json');
  });

  it('hold the credentials of podman', () => {
    const env = { HOME: '/home/me', XDG_RUNTIME_DIR: '/run/user/7' };
    expect(podmanAuthFiles(env, 'linux')).toEqual([
      '/run/user/7/containers/auth.json',
      '/home/me/.config/containers/auth.json',
    ]);
    expect(podmanAuthFiles({ HOME: '/root' }, 'linux')[0]).toBe(`/run/containers/${process.getuid?.() ?? 0}/auth.json`);
    expect(podmanAuthFiles(env, 'darwin')).toEqual(['/home/me/.config/containers/auth.json']);
    expect(podmanAuthFiles(windows, 'win32')).toEqual(['C:\\Users\\me\\.config\\containers\\auth.json']);
    expect(podmanAuthFiles({ ...env, REGISTRY_AUTH_FILE: '/a.json' }, 'linux')).toEqual(['/a.json']);
  });
});

describe('the engine of docker', () => {
  it('listens on a socket, on Windows on a named pipe', () => {
    for (const system of UNIX) expect(dockerSocket(system)).toBe('/var/run/docker.sock');
    expect(dockerSocket('win32')).toBe('//./pipe/docker_engine');
  });

  it('is named by DOCKER_HOST in the way of the system', () => {
    expect(socketInHost('unix:///run/other.sock', 'linux')).toBe('/run/other.sock');
    expect(socketInHost('npipe:////./pipe/other', 'win32')).toBe('//./pipe/other');
    expect(socketInHost('npipe:////./pipe/other', 'linux')).toBeUndefined();
    expect(socketInHost('unix:///run/other.sock', 'win32')).toBeUndefined();
    expect(socketInHost('tcp://127.0.0.1:2375', 'win32')).toBeUndefined();
  });

  it('writes into a FIFO, except on Windows', () => {
    expect([...UNIX, 'win32' as const].filter((system) => hasFifos(system))).toEqual(UNIX);
  });
});

describe('the end of the program', () => {
  it('is asked for by signals, on Windows by more', () => {
    for (const system of UNIX) expect(endingSignals(system)).toEqual(['SIGINT', 'SIGTERM']);
    expect(endingSignals('win32')).toEqual(['SIGINT', 'SIGTERM', 'SIGBREAK', 'SIGHUP']);
  });
});

describe('a program', () => {
  let folder: string;

  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'chunked-push-programs-'));
    mkdirSync(join(folder, 'other'));
    for (const name of ['docker', 'docker.exe', 'podman.cmd', 'other/podman.exe'])
      writeFileSync(join(folder, name), '', { mode: 0o755 });
    writeFileSync(join(folder, 'notes'), '', { mode: 0o644 });
  });

  afterAll(() => rmSync(folder, { recursive: true }));

  it('has the endings of PATHEXT on Windows', () => {
    expect(programNames('docker', {}, 'win32')).toEqual(['docker.com', 'docker.exe', 'docker.bat', 'docker.cmd']);
    expect(programNames('docker', { PathExt: '.EXE;.PS1;' }, 'win32')).toEqual(['docker.exe', 'docker.ps1']);
    expect(programNames('Docker.EXE', {}, 'win32')).toEqual(['Docker.EXE']);
    expect(programNames('docker', { PATHEXT: '.EXE' }, 'linux')).toEqual(['docker']);
  });

  it.skipIf(process.platform === 'win32')('is found in the PATH, in its order', () => {
    const env = { PATH: `/nowhere:${folder}/other:${folder}` };
    expect(findProgram('docker', env, 'linux')).toBe(join(folder, 'docker'));
    expect(findProgram('notes', env, 'linux')).toBeUndefined();
    expect(findProgram('skopeo', env, 'linux')).toBeUndefined();
    expect(findProgram('docker', {}, 'linux')).toBeUndefined();
  });

  it.runIf(process.platform === 'win32')('is found on Windows, by a copy of the environment too', () => {
    const env = { Path: `C:\\nowhere;${join(folder, 'other')};${folder}` };
    expect(findProgram('docker', env)).toBe(join(folder, 'docker.exe'));
    expect(findProgram('podman', env)).toBe(join(folder, 'other', 'podman.exe'));
  });
});
