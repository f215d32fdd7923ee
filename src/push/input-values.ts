/**
 * Reads the values of single inputs: choices, booleans, numbers, sizes, durations, lists. Each error names its input.
 */

import { explain, messageOf, PushError } from '../common/error.ts';
import { parseReference } from '../oci/reference.ts';
import { expectSource } from '../source/find/find.ts';

/** Every input, by its name in action.yml and in its order. */
export const INPUT_NAMES = [
  'image',
  'merge',
  'merge-cleanup',
  'annotations',
  'push-by-digest',
  'tags',
  'username',
  'password',
  'engine',
  'export',
  'platforms',
  'chunk-size',
  'concurrency',
  'max-retries',
  'max-wait',
  'compression',
  'compression-level',
  'force-compression',
  'cache',
  'cache-from',
  'cache-max-size',
  'fallback',
  'insecure',
  'ca-file',
  'tls-verify',
  'dry-run',
] as const;

export type InputName = (typeof INPUT_NAMES)[number];

/** The inputs as texts, by the names of action.yml; empty or absent means the default. */
export type RawInputs = Readonly<Partial<Record<InputName, string>>>;

/** An input that can't be used: its name, what is wrong with it, and one that is right. */
export class InputError extends PushError {
  override readonly name = 'InputError';

  constructor(name: InputName, problem: string, example: string, cause?: unknown) {
    super('Input', `${name}: ${problem}`, { remedy: example, ...(cause === undefined ? {} : { cause }) });
  }
}

/** One item a line or comma-separated, as docker/metadata-action writes them. */
export const listOf = (text: string): string[] => itemsOf(text.split(/[\n,]/));

/** One item a line: for values that may contain a comma. */
export const linesOf = (text: string): string[] => itemsOf(text.split('\n'));

const itemsOf = (parts: readonly string[]): string[] => parts.map((item) => item.trim()).filter((item) => item !== '');

/** One of `choices`, in any case; the first one for an empty text. Throws InputError. */
export function choiceOf<const T extends string>(name: InputName, text: string, choices: readonly [T, ...T[]]): T {
  if (text === '') return choices[0];
  const found = choices.find((one) => one === text.toLowerCase());
  if (found) return found;
  throw new InputError(
    name,
    `${JSON.stringify(text)} is not one of ${choices.join(', ')}`,
    `write ${name}: ${choices[0]}`,
  );
}

/** YAML 1.2's own booleans, as @actions/core reads them; `preset` for an empty text. Throws InputError. */
export function booleanOf(name: InputName, text: string, preset: boolean): boolean {
  if (text === '') return preset;
  if (/^(true|True|TRUE)$/.test(text)) return true;
  if (/^(false|False|FALSE)$/.test(text)) return false;
  throw new InputError(name, `${JSON.stringify(text)} is neither true nor false`, `write ${name}: true`);
}

/** A whole number in a range. Throws InputError. */
export function wholeNumberOf(name: InputName, text: string, [min, max]: readonly [number, number]): number {
  const value = Number(text);
  if (/^\d+$/.test(text) && value >= min && value <= max) return value;
  throw new InputError(
    name,
    `${JSON.stringify(text)} is not a whole number from ${min} to ${max}`,
    `write ${name}: ${Math.max(min, 5)}`,
  );
}

/** Node reads files and buffers with numbers up to this. */
const MAX_BYTES = Number.MAX_SAFE_INTEGER;

const UNITS: Readonly<Record<string, number>> = {
  '': 1,
  B: 1,
  KB: 1e3,
  MB: 1e6,
  GB: 1e9,
  KIB: 2 ** 10,
  MIB: 2 ** 20,
  GIB: 2 ** 30,
};

/** A number of bytes, or with a unit: `MB` is 10^6, `MiB` is 2^20. Throws InputError. */
export function bytesOf(name: InputName, text: string, example: string): number {
  const match = /^(\d+(?:\.\d+)?)\s*([kKmMgG]?[iI]?[bB]?)$/.exec(text);
  const unit = UNITS[(match?.[2] ?? '-').toUpperCase()];
  const value = Math.floor(Number(match?.[1]) * (unit ?? Number.NaN));
  if (value >= 1 && value <= MAX_BYTES) return value;
  throw new InputError(
    name,
    `${JSON.stringify(text)} is not a size`,
    `write ${name}: ${example}, or a number of bytes`,
  );
}

const DURATION_UNITS: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 };
/** Timers of Node.js fire at once when they are set to more than this. Milliseconds: 24.8 days. */
const MAX_DURATION_MS = 2 ** 31 - 1;

/** A duration as Go writes them (`30s`, `10m`, `1h30m`), in milliseconds. Throws InputError. */
export function durationOf(name: InputName, text: string): number {
  const terms = [...text.matchAll(/(\d+(?:\.\d+)?)(ms|s|m|h)/g)];
  const value = terms.reduce((sum, [, count, unit]) => sum + Number(count) * DURATION_UNITS[unit!]!, 0);
  const isDuration = terms.length > 0 && terms.map(([term]) => term).join('') === text;
  if (isDuration && value <= MAX_DURATION_MS) return Math.round(value);
  const problem = isDuration ? 'is longer than 24 days' : 'is not a duration';
  throw new InputError(name, `${JSON.stringify(text)} ${problem}`, `write ${name}: 10m (30s, 10m, 1h)`);
}

/** Runs a check of another room, and names the input in its error. Throws InputError. */
export function checked<T>(name: InputName, check: () => T): T {
  try {
    return check();
  } catch (error) {
    const { message, remedy } = explain(error);
    throw new InputError(name, message, remedy ?? '', error);
  }
}

/** Throws InputError for what can't be the name of an image. */
export function expectImage(image: string): void {
  if (!image.startsWith('docker://')) {
    checked('image', () => expectSource(image));
    return;
  }
  try {
    parseReference(image.slice('docker://'.length));
  } catch (error) {
    throw new InputError('image', messageOf(error), 'write it as docker://registry.example.com/team/app:1.2', error);
  }
}

export interface Annotations {
  readonly manifest: Readonly<Record<string, string>>;
  readonly index: Readonly<Record<string, string>>;
}

/**
 * Annotations, `key=value` one a line. docker/metadata-action writes the level before the key, `manifest:` or `index:`
 * or both (`manifest,index:`). Without it a push means the manifest, as docker/build-push-action does, and a merge its
 * index. Throws InputError.
 */
export function annotationsOf(text: string, unprefixed: keyof Annotations): Annotations {
  const levels = { manifest: {} as Record<string, string>, index: {} as Record<string, string> };
  for (const line of linesOf(text)) {
    const [, prefix, key, value] = /^(?:([a-z-]+(?:,[a-z-]+)*(?:\[[^\]]*\])?):)?([^\s=:]+)=(.*)$/.exec(line) ?? [];
    const example = 'write for example annotations: index:org.opencontainers.image.version=1.2';
    if (key === undefined || value === undefined)
      throw new InputError('annotations', `${JSON.stringify(line)} is not key=value`, example);
    for (const level of prefix?.split(',') ?? [unprefixed]) {
      if (level !== 'manifest' && level !== 'index')
        throw new InputError('annotations', `${JSON.stringify(level)} is neither manifest nor index`, example);
      levels[level][key] = value;
    }
  }
  return levels;
}
