/** The command line, read by the table of flags; flags have the names of the action's inputs. */

import { parseArgs } from 'node:util';
import type { InputName, RawInputs } from '../push/input-values.ts';
import { SHELLS, type Shell } from './completion.ts';
import { FLAGS } from './flag-table.ts';

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
  if (doctor && rest.length !== 1) throw new UsageError('doctor takes one REGISTRY/REPOSITORY');
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
    throw new UsageError((cause as Error).message, { cause });
  }
}
