/** Runs the command `chunked-push` of the committed dist: in a pipe, or in a pseudo-terminal of util-linux's `script`. */
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { ACTION_VARIABLE, type RunUser } from './runner.ts';
import { Screen } from './screen.ts';

export interface CommandOptions {
  /** Beside PATH and HOME; a folder of the test's own is the HOME. */
  readonly env: Readonly<Record<string, string | undefined>> & { readonly HOME: string };
  /** What comes on standard input, which then ends. */
  readonly input?: string;
  /** The user who runs it, the one of this process unless told: see real/hosted-user.ts. */
  readonly user?: RunUser;
  /** Called with each piece of what is printed, and with ways to answer it. */
  readonly onOutput?: (text: string, reply: { signal(name: NodeJS.Signals): void; type(keys: string): void }) => void;
}

export interface CommandRun {
  readonly exitCode: number | undefined;
  readonly stdout: string;
  readonly stderr: string;
}

const TIME_LIMIT = 120_000;

const cli = (): string =>
  join(process.env[ACTION_VARIABLE] ?? fileURLToPath(new URL('../../', import.meta.url)), 'dist/cli.js');

const commandLine = (args: readonly string[], { user }: CommandOptions): readonly string[] => {
  if (!existsSync(cli())) throw new Error(`${cli()} is missing: "npm run build" makes it`);
  const line = [process.execPath, cli(), ...args];
  return user?.command(line) ?? line;
};

const environment = ({ env, user }: CommandOptions): Record<string, string | undefined> => ({
  PATH: process.env.PATH,
  ...user?.env,
  ...env,
});

/** Runs the command with pipes for all three streams. */
export const runCommand = async (args: readonly string[], options: CommandOptions): Promise<CommandRun> => {
  const printed = { stdout: '', stderr: '' };
  const exitCode = await watch(commandLine(args, options), options, (name, text) => {
    printed[name] += text;
  });
  return { exitCode, ...printed };
};

export interface TerminalRun {
  readonly exitCode: number | undefined;
  /** All bytes that came out of the terminal. */
  readonly raw: string;
  /** What a person sees in the end, scrolled-away lines included. */
  readonly lines: readonly string[];
}

/** Runs the command in a terminal of `columns` by `rows`. */
export const runInTerminal = async (
  args: readonly string[],
  options: CommandOptions & { readonly columns: number; readonly rows: number },
): Promise<TerminalRun> => {
  const { columns, rows } = options;
  const inner = commandLine(args, options).map((word) => `'${word.replaceAll("'", "'\\''")}'`);
  const size = `stty cols ${columns} rows ${rows}`;
  const screen = new Screen(columns, rows);
  let raw = '';
  const command = [
    'script',
    '--quiet',
    '--flush',
    '--return',
    '--command',
    `${size}; exec ${inner.join(' ')}`,
    '/dev/null',
  ];
  const exitCode = await watch(command, { ...options, env: { TERM: 'xterm', ...options.env } }, (_, text) => {
    raw += text;
    screen.write(text);
  });
  return { exitCode, raw, lines: screen.lines() };
};

const watch = (
  [program = '', ...args]: readonly string[],
  options: CommandOptions,
  onText: (name: 'stdout' | 'stderr', text: string) => void,
): Promise<number | undefined> =>
  new Promise((resolve, reject) => {
    const child = spawn(program, args, { env: environment(options), cwd: options.env.HOME, timeout: TIME_LIMIT });
    const reply = {
      signal: (name: NodeJS.Signals) => void child.kill(name),
      type: (keys: string) => void child.stdin.write(keys),
    };
    for (const name of ['stdout', 'stderr'] as const) {
      child[name].setEncoding('utf8').on('data', (text: string) => {
        onText(name, text);
        options.onOutput?.(text, reply);
      });
    }
    child.stdin.on('error', () => {});
    // Whoever wants to type later keeps it open: the end of a terminal's input would be a Ctrl-D.
    if (options.onOutput === undefined) child.stdin.end(options.input ?? '');
    child.once('error', reject);
    child.once('close', (code) => resolve(code ?? undefined));
  });
