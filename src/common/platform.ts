/**
 * What differs between operating systems, all in one place. Each function takes the system, by default this one, so
 * that tests can try Windows and macOS on any machine. Knows nothing of images and registries.
 */
import { accessSync, constants } from 'node:fs';
import { homedir } from 'node:os';
import { type PlatformPath, posix, win32 } from 'node:path';

export type System = NodeJS.Platform;

/** The rules of path names on a system. */
export const pathsOf = (system: System = process.platform): PlatformPath => (system === 'win32' ? win32 : posix);

/**
 * The position of the colon that ends a path in `PATH[:REF]`, skopeo's syntax; -1 without one. The colon of a Windows
 * drive (`C:\images\app.tar`, `C:/images/app.tar`, `\\?\C:\…`) is part of the path. A letter without a slash (`a:tag`)
 * is a path and a reference there too: Windows would take it for a path relative to the current folder of drive A.
 */
export function colonAfterPath(text: string, system: System = process.platform): number {
  const drive = system === 'win32' ? /^(?:[\\/]{2}[?.][\\/])?[A-Za-z]:(?=[\\/])/.exec(text)?.[0] : undefined;
  return text.indexOf(':', drive?.length ?? 0);
}

/**
 * Whether a name out of an archive or a folder's list would be a file elsewhere, if it were joined to the folder's
 * path.
 */
export const leadsOut = (name: string, system: System = process.platform): boolean =>
  pathsOf(system).isAbsolute(name) ||
  name.split(system === 'win32' ? /[\\/]/ : '/').includes('..') ||
  // `C:file` is relative to that drive's current folder, and `file:stream` is another stream of a file.
  (system === 'win32' && name.includes(':'));

/**
 * A variable of an environment. On Windows their names have no case, but a copy of `process.env` has: it may have
 * `Path`.
 */
export function variable(name: string, env: NodeJS.ProcessEnv, system: System = process.platform): string | undefined {
  if (system !== 'win32' || env[name] !== undefined) return env[name];
  return Object.entries(env).find(([key]) => key.toUpperCase() === name)?.[1];
}

/**
 * The user's folder, as Go's os.UserHomeDir has it for docker and podman: on Windows %USERPROFILE% and never %HOME%,
 * which Git's shell sets.
 */
export const homeFolder = (env: NodeJS.ProcessEnv, system: System = process.platform): string =>
  variable(system === 'win32' ? 'USERPROFILE' : 'HOME', env, system) || homeOfUser();

/** A container may run as a user whom it does not know. */
function homeOfUser(): string {
  try {
    return homedir();
  } catch {
    return '/';
  }
}

/**
 * Where this program keeps files from run to run: the XDG Base Directory Specification on Linux and wherever its
 * variable is set, ~/Library/Caches on macOS, %LOCALAPPDATA% on Windows.
 */
export function cacheFolder(env: NodeJS.ProcessEnv, system: System = process.platform): string {
  const { join } = pathsOf(system);
  const home = homeFolder(env, system);
  if (env.XDG_CACHE_HOME) return join(env.XDG_CACHE_HOME, 'chunked-push');
  if (system === 'darwin') return join(home, 'Library', 'Caches', 'chunked-push');
  if (system !== 'win32') return join(home, '.cache', 'chunked-push');
  return join(variable('LOCALAPPDATA', env, system) || join(home, 'AppData', 'Local'), 'chunked-push', 'cache');
}

/** Docker's and Podman's files of settings and credentials hold some KiB. Bytes. */
export const MAX_CONFIG_FILE_BYTES = 4 * 1024 * 1024;

/**
 * Docker's config.json. DOCKER_CONFIG names its folder:
 * https://docs.docker.com/reference/cli/docker/#environment-variables
 */
export const dockerConfigFile = (env: NodeJS.ProcessEnv, system: System = process.platform): string => {
  const { join } = pathsOf(system);
  return join(env.DOCKER_CONFIG || join(homeFolder(env, system), '.docker'), 'config.json');
};

/**
 * Podman's auth files, in its order. A file that the environment names stands alone. The one in the runtime folder is
 * Linux's. https://github.com/containers/image/blob/main/docs/containers-auth.json.5.md
 */
export function podmanAuthFiles(env: NodeJS.ProcessEnv, system: System = process.platform): string[] {
  if (env.REGISTRY_AUTH_FILE) return [env.REGISTRY_AUTH_FILE];
  const { join } = pathsOf(system);
  const config = env.XDG_CONFIG_HOME || join(homeFolder(env, system), '.config');
  const ofUser = join(config, 'containers', 'auth.json');
  if (system === 'win32' || system === 'darwin') return [ofUser];
  const runtime = env.XDG_RUNTIME_DIR || `/run/containers/${process.getuid?.() ?? 0}`;
  return [join(runtime, ...(env.XDG_RUNTIME_DIR ? ['containers'] : []), 'auth.json'), ofUser];
}

/**
 * Where Docker's engine listens when nothing says otherwise: a socket, on Windows a named pipe. Both are what
 * net.connect takes.
 */
export const dockerSocket = (system: System = process.platform): string =>
  system === 'win32' ? '//./pipe/docker_engine' : '/var/run/docker.sock';

/** The socket or named pipe in a DOCKER_HOST (`unix:///…`, `npipe:////./pipe/…`); undefined for any other host. */
export const socketInHost = (host: string, system: System = process.platform): string | undefined =>
  (system === 'win32' ? /^npipe:\/\/(\/\/.+)$/ : /^unix:\/\/(\/.*)$/).exec(host)?.[1];

/** Where a program is, by the PATH of `env`; undefined when it is not installed. */
export function findProgram(
  name: string,
  env: NodeJS.ProcessEnv,
  system: System = process.platform,
): string | undefined {
  const { delimiter, join } = pathsOf(system);
  const names = programNames(name, env, system);
  for (const folder of (variable('PATH', env, system) ?? '').split(delimiter)) {
    for (const file of names) {
      const path = join(folder || '.', file);
      try {
        accessSync(path, constants.X_OK);
        return path;
      } catch {
        // Not there, or not for us: the next one.
      }
    }
  }
  return undefined;
}

/**
 * The files that a program's name may stand for: on Windows with the endings of %PATHEXT%, where any file may be
 * "executed".
 */
export function programNames(name: string, env: NodeJS.ProcessEnv, system: System = process.platform): string[] {
  if (system !== 'win32') return [name];
  const endings = (variable('PATHEXT', env, system) || '.COM;.EXE;.BAT;.CMD').split(';').filter((it) => it !== '');
  return endings.some((it) => name.toLowerCase().endsWith(it.toLowerCase()))
    ? [name]
    : endings.map((ending) => name + ending.toLowerCase());
}

/**
 * The signals that ask this program to end. On Windows Ctrl+Break and the closing of the console window arrive as
 * signals too.
 */
export const endingSignals = (system: System = process.platform): readonly NodeJS.Signals[] =>
  system === 'win32' ? ['SIGINT', 'SIGTERM', 'SIGBREAK', 'SIGHUP'] : ['SIGINT', 'SIGTERM'];

/**
 * Whether a file can be a pipe between processes (mkfifo). Windows has named pipes, which are no files: a tool can't
 * write to one by its name.
 */
export const hasFifos = (system: System = process.platform): boolean => system !== 'win32';
