/** The command line, read by the table of flags; flags have the names of the action's inputs. */

import { parseArgs } from 'node:util';
import type { InputName, RawInputs } from '../push/input-values.ts';

/** Every flag of the command, once: parsing, --help and shell completion are made of this table. */
export interface Flag {
  readonly name: string;
  /** The input that it sets; undefined for what only the command has. */
  readonly input?: InputName;
  /** What stands for its value in the help; without one the flag is a switch. */
  readonly value?: string;
  /** The values that there are, for completion. */
  readonly choices?: readonly string[];
  readonly multiple?: boolean;
  readonly short?: string;
  /** Lines of the help. */
  readonly help: string;
}

interface FlagGroup {
  readonly title: string;
  readonly example: string;
  readonly flags: readonly Flag[];
}

export const GROUPS: readonly FlagGroup[] = [
  {
    title: 'What goes where',
    example: 'chunked-push app:1.2 --to registry.example.com/team/app:1.2',
    flags: [
      {
        name: 'to',
        input: 'tags',
        value: 'REFERENCE',
        multiple: true,
        help: 'where to push it (default: IMAGE); several times for several tags, repositories, registries',
      },
      {
        name: 'image',
        input: 'image',
        value: 'IMAGE',
        multiple: true,
        help: 'one of several images, each with its own name; no tag is written before all are there',
      },
      { name: 'platforms', input: 'platforms', value: 'LIST', help: 'linux/amd64,linux/arm64 (default: all present)' },
      { name: 'push-by-digest', input: 'push-by-digest', help: 'push the manifests and write no tag' },
      {
        name: 'annotations',
        input: 'annotations',
        value: 'KEY=VALUE',
        multiple: true,
        help: 'of the index (index:KEY=VALUE) or of manifests; several times',
      },
    ],
  },
  {
    title: 'Merging images of several platforms into one index',
    example: 'chunked-push --merge registry.example.com/app:1-* --to registry.example.com/app:1',
    flags: [
      {
        name: 'merge',
        input: 'merge',
        value: 'REFERENCE',
        multiple: true,
        help: 'images in the registry that become the index; a tag may end in *',
      },
      { name: 'merge-cleanup', input: 'merge-cleanup', help: 'then delete the tags that a * matched' },
    ],
  },
  {
    title: 'Access to the registry',
    example: 'chunked-push app:1.2 --username ci --password-stdin < password.txt',
    flags: [
      {
        name: 'username',
        input: 'username',
        value: 'NAME',
        help: 'user name (default: what docker login or podman login has stored)',
      },
      { name: 'password-stdin', help: 'read the password from standard input' },
      { name: 'insecure', input: 'insecure', help: 'plain HTTP (always allowed on loopback)' },
      { name: 'ca-file', input: 'ca-file', value: 'FILE', help: 'extra CA certificates' },
      {
        name: 'tls-verify',
        input: 'tls-verify',
        value: 'BOOL',
        choices: ['true', 'false'],
        help: 'false: accept any certificate',
      },
    ],
  },
  {
    title: 'How it is sent',
    example: 'chunked-push app:1.2 --chunk-size 10MB --max-wait 30m',
    flags: [
      { name: 'chunk-size', input: 'chunk-size', value: 'SIZE', help: 'largest request body: 95MB, 64MiB, auto' },
      { name: 'concurrency', input: 'concurrency', value: 'N', help: 'blobs uploaded at once (5)' },
      { name: 'max-retries', input: 'max-retries', value: 'N', help: 'failed tries in a row without progress (3)' },
      {
        name: 'max-wait',
        input: 'max-wait',
        value: 'DURATION',
        help: 'how long a registry may be away: 30s, 10m (10m)',
      },
      {
        name: 'fallback',
        input: 'fallback',
        value: 'WHO',
        choices: ['none', 'engine'],
        help: "engine: run the engine's own push when this one fails",
      },
    ],
  },
  {
    title: 'Where layers come from, and how they are compressed',
    example: 'chunked-push app:1.2 --compression zstd --compression-level 3',
    flags: [
      {
        name: 'engine',
        input: 'engine',
        value: 'ENGINE',
        choices: ['auto', 'docker', 'podman'],
        help: 'auto, docker, podman',
      },
      { name: 'export', input: 'export', value: 'HOW', choices: ['auto', 'save', 'store'], help: 'auto, save, store' },
      { name: 'compression', input: 'compression', value: 'KIND', choices: ['gzip', 'zstd'], help: 'gzip, zstd' },
      { name: 'compression-level', input: 'compression-level', value: 'N', help: 'gzip 1 to 9, zstd 1 to 19' },
      { name: 'force-compression', input: 'force-compression', help: 'compress layers again that have another kind' },
      { name: 'no-cache', help: 'keep no compressed layers on this machine' },
      {
        name: 'cache-from',
        input: 'cache-from',
        value: 'REFERENCE',
        multiple: true,
        help: 'image whose layers may be reused; several times',
      },
      { name: 'cache-max-size', input: 'cache-max-size', value: 'SIZE', help: 'the most that is kept (2GiB)' },
    ],
  },
  {
    title: 'What it says',
    example: 'chunked-push app:1.2 --json | jq -r .digest',
    flags: [
      { name: 'dry-run', input: 'dry-run', help: 'say what would be uploaded, change nothing' },
      { name: 'json', help: 'print digest, image ID and metadata as JSON' },
      { name: 'verbose', help: 'say more' },
      { name: 'help', short: 'h', help: 'this text' },
      { name: 'version', help: 'the version' },
    ],
  },
];

export const FLAGS: readonly Flag[] = GROUPS.flatMap(({ flags }) => flags);

/** The commands that may stand where an image does. */
export const COMMANDS = ['doctor', 'completion'] as const;

/** The shells that `completion` knows. */
export const SHELLS = ['bash', 'zsh'] as const;
export type Shell = (typeof SHELLS)[number];

export interface Command {
  readonly inputs: RawInputs;
  readonly passwordFromStdin: boolean;
  readonly json: boolean;
  readonly verbose: boolean;
  readonly show: 'usage' | 'version' | undefined;
  /** Print the completion of this shell. */
  readonly completion: Shell | undefined;
  /** Examine the registry of this reference; the inputs have it as `image`. */
  readonly doctor: boolean;
}

/** A command line that can't be used. */
export class UsageError extends Error {}

type Value = string | boolean | (string | boolean)[] | undefined;
type Values = Readonly<Record<string, Value>>;

const OPTIONS = Object.fromEntries(
  FLAGS.map(({ name, value, multiple = false, short }) => [
    name,
    { type: value === undefined ? ('boolean' as const) : ('string' as const), multiple, ...(short && { short }) },
  ]),
);

/** An archive that comes on standard input: source/archive/archive-file.ts. */
const STDIN_SOURCE = /^(docker|oci)-archive:(-|\/dev\/stdin)(:|$)/;

/** Reads the command line. Throws UsageError. */
export function parseFlags(args: readonly string[]): Command {
  const { values, positionals } = parsed(args);
  const show = values.help ? 'usage' : values.version ? 'version' : undefined;
  const [word, ...rest] = positionals;
  const completion = show === undefined && word === 'completion' ? shellOf(rest) : undefined;
  const doctor = show === undefined && word === 'doctor';
  if (doctor) checkRepository(rest);
  const names = doctor ? rest : positionals;
  if (show === undefined && completion === undefined) checkNames(names, values);
  return {
    inputs: inputsOf(values, names),
    passwordFromStdin: values['password-stdin'] === true,
    json: values.json === true,
    verbose: values.verbose === true,
    show,
    completion,
    doctor,
  };
}

function shellOf(names: readonly string[]): Shell {
  const shell = SHELLS.find((name) => name === names[0]);
  if (shell === undefined || names.length > 1) throw new UsageError(`completion takes one of ${SHELLS.join(', ')}`);
  return shell;
}

/** A host alone would be an image of Docker Hub that has its name. */
const HOST_ALONE = /^(localhost|[^/]*\.[^/]*|\[[^/]*\])(:\d+)?\/?$|^[^/]*:\d+\/?$/;

function checkRepository(names: readonly string[]): void {
  const [name = ''] = names;
  if (names.length !== 1) throw new UsageError('doctor takes one REGISTRY/REPOSITORY');
  if (HOST_ALONE.test(name))
    throw new UsageError(
      `doctor takes REGISTRY/REPOSITORY, and ${name} is a registry alone: add the repository that you push to, as in ${name.replace(/\/$/, '')}/team/app`,
    );
}

function checkNames(positionals: readonly string[], values: Values): void {
  const images = [...positionals, ...((values.image ?? []) as string[])];
  if (values['password-stdin'] && images.some((image) => STDIN_SOURCE.test(image)))
    throw new UsageError(
      'standard input is either the password or the image: use docker login, or give the image as a file',
    );
  if (values.merge !== undefined) return;
  if (positionals.length === 0 && values.image === undefined) throw new UsageError('IMAGE is missing');
  if (positionals.length > 1)
    throw new UsageError(`one IMAGE at a time: ${positionals.join(' ')} (several: --image IMAGE --image IMAGE)`);
}

/** The inputs of the action: switches are `true` or `false`, what may come several times has one a line. */
function inputsOf(values: Values, positionals: readonly string[]): RawInputs {
  const inputs: Partial<Record<InputName, string>> = {};
  for (const { name, input, value, multiple } of FLAGS) {
    if (input === undefined) continue;
    const given = values[name];
    if (value === undefined) inputs[input] = String(given === true);
    else if (multiple) inputs[input] = ((given ?? []) as string[]).join('\n');
    else if (typeof given === 'string') inputs[input] = given;
  }
  const images = (values.image ?? []) as string[];
  const isMerge = values.merge !== undefined;
  return {
    ...inputs,
    // `--merge A B C --to D`: the arguments after the first belong to the merge too.
    image: (isMerge ? images : [...positionals, ...images]).join('\n'),
    merge: isMerge ? [...(values.merge as string[]), ...positionals].join('\n') : '',
    cache: values['no-cache'] ? 'false' : 'true',
  };
}

function parsed(args: readonly string[]): { values: Values; positionals: readonly string[] } {
  try {
    return parseArgs({ args: [...args], options: OPTIONS, allowPositionals: true });
  } catch (cause) {
    const { message } = cause as Error;
    const unknown = /^Unknown option '--?([^']+)'/.exec(message)?.[1];
    if (unknown === undefined) throw new UsageError(message, { cause });
    const flag = `${unknown.length > 1 ? '--' : '-'}${unknown}`;
    const hint = HINTS.get(unknown);
    throw new UsageError(`there is no flag ${flag}${hint === undefined ? '' : `: ${hint}`}`, { cause });
  }
}

/** What people write for a flag that has another name: that of the input, or another tool's. */
const HINTS: ReadonlyMap<string, string> = new Map([
  ...['tags', 'tag', 't'].map((name) => [name, 'write --to for each tag'] as const),
  ...['password', 'p'].map(
    (name) => [name, 'others would see it in the list of processes; write --password-stdin'] as const,
  ),
  ['u', 'write --username'],
  ['cache', 'layers are cached unless you write --no-cache'],
  ['platform', 'write --platforms'],
]);
