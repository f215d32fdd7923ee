/** Commands that are run to their end, and servers that end with the process which started them. */
import { execFile, spawn } from 'node:child_process';
import { closeSync, fstatSync, mkdtempSync, openSync, readSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

export interface RunOptions {
  readonly env?: Readonly<Record<string, string | undefined>>;
  readonly cwd?: string;
  /** Milliseconds until the command is ended; two minutes unless told. */
  readonly timeout?: number;
}

const OUTPUT_LIMIT = 64 * 1024 * 1024;

/** Runs a command to its end and gives its standard output. Throws an Error with all that it printed when it fails. */
export const run = (command: string, args: readonly string[], options: RunOptions = {}): Promise<string> =>
  new Promise((resolve, reject) => {
    const { env = process.env, cwd, timeout = 120_000 } = options;
    execFile(command, args, { env, cwd, timeout, maxBuffer: OUTPUT_LIMIT }, (error, stdout, stderr) => {
      if (error === null) resolve(stdout);
      else reject(new Error(`${command} ${args.join(' ')}\n${stdout}${stderr}${error.message}`, { cause: error }));
    });
  });

export const isRoot = (): boolean => process.getuid?.() === 0;

/** What comes before a command that must run as root in the environment that it is given. */
export const rootPrefix = (): readonly string[] =>
  isRoot() ? [] : ['sudo', '-n', '-E', 'env', `PATH=${process.env.PATH}`];

/** A command line with what makes it run as root: nothing for root; `sudo -n`, which keeps only `path`, for everybody else. */
export const asRoot = (command: readonly string[], path = process.env.PATH ?? ''): readonly string[] =>
  isRoot() ? command : ['sudo', '-n', 'env', `PATH=${path}`, ...command];

/** A new private folder. Its name is what supervise.sh agrees to remove. */
export const privateFolder = (name: string): string => mkdtempSync(join(tmpdir(), `chunked-push-${name}-`));

/** Removes a private folder that no supervised server owns. */
export const removeFolder = (folder: string): void => rmSync(folder, { recursive: true, force: true });

/** A loopback port that was free a moment ago: for servers that can't choose one themselves. */
export const freePort = (): Promise<number> =>
  new Promise((resolve, reject) => {
    const probe = createServer().once('error', reject);
    probe.listen(0, '127.0.0.1', () => {
      const address = probe.address();
      probe.close(() => (typeof address === 'object' && address !== null ? resolve(address.port) : reject()));
    });
  });

export interface Server {
  /** What it has printed so far. */
  log(): string;
  /** Resolves when `ready` gives something. Ends the server and throws with its log when it ends before, or after three minutes. */
  until<T>(ready: () => T | undefined | Promise<T | undefined>): Promise<T>;
  /** Ends the server and removes its folder; resolves when both are gone. */
  stop(): Promise<void>;
}

export interface ServerOptions {
  /** Holds the server's files and log; removed after its end. From `privateFolder`. */
  readonly folder: string;
  readonly command: readonly string[];
  readonly env?: Readonly<Record<string, string | undefined>>;
  /** Whether it needs root (by `sudo -n` for an ordinary user). */
  readonly root?: boolean;
}

const START_LIMIT = 180_000;
const supervisor = fileURLToPath(new URL('supervise.sh', import.meta.url));

/** Starts a server under supervise.sh: it ends by `stop()` and, whatever happens, together with this process. */
export const startServer = (options: ServerOptions): Server => {
  // Read by its descriptor: the file's last words are there even when the folder is gone already.
  const log = openSync(join(options.folder, 'server.log'), 'a+');
  const read = () => {
    const bytes = Buffer.alloc(fstatSync(log).size);
    return bytes.toString('utf8', 0, readSync(log, bytes, 0, bytes.length, 0));
  };
  const line = ['sh', supervisor, options.folder, ...options.command];
  const [program = 'sh', ...args] = options.root ? asRoot(line, options.env?.PATH) : line;
  const child = spawn(program, args, { stdio: ['pipe', log, log], env: options.env ?? process.env });
  let failure: string | undefined;
  const ended = new Promise<void>((resolve) => {
    const end = (how: string) => {
      failure ??= how;
      resolve();
    };
    child.once('error', (error) => end(error.message));
    child.once('close', (code, signal) => end(`it ended with ${signal ?? code}`));
  });
  let last: string | undefined;
  const stop = async () => {
    child.stdin?.end();
    await ended;
    if (last !== undefined) return;
    last = read();
    closeSync(log);
  };
  return {
    log: () => last ?? read(),
    stop,
    async until(ready) {
      const deadline = Date.now() + START_LIMIT;
      for (;;) {
        const result = await ready();
        if (result !== undefined) return result;
        if (failure !== undefined || Date.now() > deadline) {
          const reason = failure ?? 'time is up';
          await stop();
          throw new Error(`${options.command.join(' ')} did not start: ${reason}\n${last?.slice(-4000)}`);
        }
        await delay(50);
      }
    },
  };
};
