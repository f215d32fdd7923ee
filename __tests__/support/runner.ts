/**
 * Runs the committed dist as GitHub's runner runs an action: action.yml's entry points and defaults, INPUT_* variables, command
 * files, the workflow commands of the log, and no other environment than what is given.
 * https://docs.github.com/en/actions/reference/workflows-and-actions/metadata-syntax and …/workflow-commands
 */
import { spawn } from 'node:child_process';
import { chownSync, cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parse } from 'yaml';
import { peakMemoryOf } from './memory.ts';
import { readCommands, readValues, type WorkflowCommands } from './runner-files.ts';

export interface RunActionOptions {
  /** By the names of action.yml; the defaults of action.yml stand for those that are not given. */
  readonly inputs?: Readonly<Record<string, string>>;
  /** Beside PATH and what the runner sets: DOCKER_HOST and the like. It may replace PATH. */
  readonly env?: Readonly<Record<string, string | undefined>>;
  readonly entry?: 'main' | 'post';
  /** What the main step saved, for the post step. */
  readonly state?: Readonly<Record<string, string>>;
  /** A runner to run on, with its HOME, RUNNER_TEMP and GITHUB_WORKSPACE; without one a fresh one is made and removed. */
  readonly runner?: Runner;
  /** Called with each piece of the log as it comes, and with a way to signal the process, which is killed when it then stays. */
  readonly onOutput?: (text: string, signal: (name: NodeJS.Signals) => void) => void;
  /** Called with the process's id as soon as it runs. */
  readonly onStart?: (pid: number) => void;
  /** Milliseconds until the process is killed; five minutes unless told. */
  readonly timeout?: number;
  /** The user who runs it, the one of this process unless told: see real/hosted-user.ts. */
  readonly user?: RunUser;
  /** What the process is started by, such as strace: a command that takes another one as its last arguments. */
  readonly prefix?: readonly string[];
  /** The folder of action.yml and dist; what `ACTION_VARIABLE` names, else this checkout, unless told. */
  readonly action?: string;
}

/** A user as the runner needs to know one; real/hosted-user.ts makes it. */
export interface RunUser {
  readonly uid: number;
  readonly gid: number;
  /** What the user's processes have at least: PATH. */
  readonly env: Readonly<Record<string, string>>;
  /** The command line that runs another one as this user. */
  command(line: readonly string[]): readonly string[];
}

export interface ActionRun extends WorkflowCommands {
  /** The exit code; undefined when a signal ended the process. */
  readonly exitCode: number | undefined;
  readonly signal: NodeJS.Signals | undefined;
  /** Standard output and error together, as the runner's log has them. */
  readonly log: string;
  readonly outputs: Readonly<Record<string, string>>;
  readonly state: Readonly<Record<string, string>>;
  /** The Markdown of the job summary. */
  readonly summary: string;
  readonly seconds: number;
  /** The most memory that the process held (bytes of resident set); undefined where /proc does not tell. */
  readonly peakMemory: number | undefined;
}

/** A machine of GitHub's, as far as an action sees it. */
export interface Runner {
  readonly home: string;
  readonly temp: string;
  readonly workspace: string;
  remove(): void;
}

/** Makes a file or folder the user's own; without a user it stays that of this process's user. */
const giveTo = (user: RunUser | undefined, path: string): void => {
  if (user !== undefined) chownSync(path, user.uid, user.gid);
};

/** A fresh runner: empty HOME, RUNNER_TEMP and GITHUB_WORKSPACE in a private folder of the user's. */
export const freshRunner = (user?: RunUser): Runner => {
  const folder = mkdtempSync(join(tmpdir(), 'chunked-push-runner-'));
  giveTo(user, folder);
  const [home, temp, workspace] = ['home', 'temp', 'workspace'].map((name) => join(folder, name)) as [
    string,
    string,
    string,
  ];
  for (const path of [home, temp, workspace]) {
    mkdirSync(path);
    giveTo(user, path);
  }
  return { home, temp, workspace, remove: () => rmSync(folder, { recursive: true, force: true }) };
};

/** Where the action lies, for a whole run of the tests. */
export const ACTION_VARIABLE = 'CHUNKED_PUSH_TEST_ACTION';

const checkout = fileURLToPath(new URL('../../', import.meta.url));

/**
 * Copies what the runner needs of the action out of this checkout: its dist must work without node_modules beside it, and a
 * build meanwhile can't pull it out from under a test.
 */
export const copyAction = (folder: string): void => {
  for (const name of ['action.yml', 'package.json', 'dist']) {
    if (existsSync(join(checkout, name))) cpSync(join(checkout, name), join(folder, name), { recursive: true });
  }
};
const TIME_LIMIT = 300_000;
/**
 * Milliseconds from the signal of a cancelled job until the runner kills what is left: 7.5 s, SIGTERM, 2.5 s.
 * https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-cancellation
 */
const PATIENCE = 10_000;

/** Runs a step of the action to its end, whatever that is. Throws an Error only when it can't be started (no dist, no action.yml). */
export const runAction = async (options: RunActionOptions): Promise<ActionRun> => {
  const runner = options.runner ?? freshRunner(options.user);
  const files = mkdtempSync(join(tmpdir(), 'chunked-push-step-'));
  giveTo(options.user, files);
  try {
    return await runStep(options, runner, files);
  } finally {
    rmSync(files, { recursive: true, force: true });
    if (options.runner === undefined) runner.remove();
  }
};

const runStep = async (options: RunActionOptions, runner: Runner, files: string): Promise<ActionRun> => {
  const action = options.action ?? process.env[ACTION_VARIABLE] ?? checkout;
  const metadata = readMetadata(action);
  const script = join(action, metadata.runs[options.entry ?? 'main']);
  if (!existsSync(script)) throw new Error(`${script} is missing: "npm run build" makes it`);
  const env = { ...environmentOf(options, metadata, runner, files), ...options.env };
  const watched = await watch(script, env, runner.workspace, options);
  const read = (name: keyof typeof FILES) => readFileSync(join(files, FILES[name]), 'utf8');
  return {
    ...watched,
    ...readCommands(watched.log),
    outputs: readValues(read('GITHUB_OUTPUT')),
    state: { ...options.state, ...readValues(read('GITHUB_STATE')) },
    summary: read('GITHUB_STEP_SUMMARY'),
  };
};

interface ActionMetadata {
  readonly inputs: Readonly<Record<string, { readonly default?: string | number | boolean }>>;
  readonly runs: { readonly main: string; readonly post: string };
}

const readMetadata = (action: string): ActionMetadata =>
  parse(readFileSync(join(action, 'action.yml'), 'utf8')) as ActionMetadata;

/** The files that an action writes to. They exist, empty, before it starts. */
const FILES = {
  GITHUB_OUTPUT: 'output',
  GITHUB_STATE: 'state',
  GITHUB_STEP_SUMMARY: 'summary',
  GITHUB_ENV: 'env',
  GITHUB_PATH: 'path',
} as const;

const environmentOf = (options: RunActionOptions, metadata: ActionMetadata, runner: Runner, files: string) => {
  const commandFiles = Object.entries(FILES).map(([name, file]) => {
    writeFileSync(join(files, file), '');
    giveTo(options.user, join(files, file));
    return [name, join(files, file)];
  });
  const given = options.inputs ?? {};
  const inputs = Object.entries(metadata.inputs).map(([name, { default: value }]) => [
    inputVariable(name),
    given[name] ?? String(value ?? ''),
  ]);
  // An input that action.yml does not know is passed on too: the runner only warns about it.
  const unknown = Object.entries(given).map(([name, value]) => [inputVariable(name), value]);
  const state = Object.entries(options.state ?? {}).map(([name, value]) => [`STATE_${name}`, value]);
  return {
    PATH: process.env.PATH,
    ...options.user?.env,
    HOME: runner.home,
    // What is HOME on Windows.
    USERPROFILE: runner.home,
    CI: 'true',
    GITHUB_ACTIONS: 'true',
    GITHUB_REPOSITORY: 'example/app',
    GITHUB_RUN_ID: '1',
    GITHUB_REF: 'refs/heads/main',
    GITHUB_SHA: '0123456789abcdef0123456789abcdef01234567',
    GITHUB_SERVER_URL: 'https://github.com',
    GITHUB_WORKSPACE: runner.workspace,
    RUNNER_TEMP: runner.temp,
    RUNNER_OS: 'Linux',
    RUNNER_ARCH: process.arch === 'arm64' ? 'ARM64' : 'X64',
    RUNNER_ENVIRONMENT: 'self-hosted',
    ...Object.fromEntries([...commandFiles, ...inputs, ...unknown, ...state]),
  };
};

/** How the runner names an input: upper case, spaces as `_`, hyphens as they are. */
const inputVariable = (name: string): string => `INPUT_${name.replaceAll(' ', '_').toUpperCase()}`;

type Watched = Pick<ActionRun, 'exitCode' | 'signal' | 'log' | 'seconds' | 'peakMemory'>;

const watch = (
  script: string,
  env: Record<string, string | undefined>,
  cwd: string,
  options: RunActionOptions,
): Promise<Watched> =>
  new Promise((resolve, reject) => {
    const started = performance.now();
    const line = [...(options.prefix ?? []), process.execPath, script];
    const [program = '', ...args] = options.user?.command(line) ?? line;
    const child = spawn(program, args, { cwd, env, stdio: ['ignore', 'pipe', 'pipe'] });
    if (child.pid !== undefined) options.onStart?.(child.pid);
    const memory = peakMemoryOf(child.pid);
    const limit = setTimeout(() => child.kill('SIGKILL'), options.timeout ?? TIME_LIMIT);
    let patience: NodeJS.Timeout | undefined;
    let log = '';
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding('utf8').on('data', (text: string) => {
        log += text;
        options.onOutput?.(text, (name) => {
          child.kill(name);
          // It ends with SIGKILL then, and without an exit code.
          patience ??= setTimeout(() => child.kill('SIGKILL'), PATIENCE);
        });
      });
    }
    child.once('error', reject);
    child.once('close', (code, signal) => {
      clearTimeout(limit);
      clearTimeout(patience);
      const seconds = (performance.now() - started) / 1000;
      resolve({ exitCode: code ?? undefined, signal: signal ?? undefined, log, seconds, peakMemory: memory.stop() });
    });
  });
