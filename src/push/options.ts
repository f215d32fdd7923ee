/** What a push is asked to do, checked and typed. The action makes it from inputs, the terminal from flags. */

import { readFileSync } from 'node:fs';
import { parsePlatform } from '../oci/platforms.ts';
import { parseReference, type Reference, withDefaultTag } from '../oci/reference.ts';
import { certificatesIn } from '../registry/http/trust.ts';
import { explain, PushError } from './error.ts';

export interface PushRequest {
  /** An image name or ID, or a file source with its transport prefix. */
  readonly image: string;
  /** Where to push it; never empty, tags only. The first one gives the `image` output. */
  readonly destinations: readonly Reference[];
  readonly credentials: { readonly username: string; readonly password: string } | undefined;
  readonly engine: 'auto' | 'docker' | 'podman';
  readonly export: 'auto' | 'save' | 'store';
  /** `os/architecture[/variant]`; empty for all that are present. */
  readonly platforms: readonly string[];
  /** The largest request body, bytes. */
  readonly chunkSize: number | 'auto';
  /** Blobs uploaded at once. */
  readonly concurrency: number;
  readonly maxRetries: number;
  readonly compression: 'gzip' | 'zstd';
  readonly compressionLevel: number | undefined;
  /** Keep and use compressed layers (locally, and in the Actions cache when `remoteCache`). */
  readonly cache: boolean;
  readonly remoteCache: boolean;
  /** Images whose layers may be reused; undefined for the destination tags and `latest` beside them. */
  readonly cacheFrom: readonly Reference[] | undefined;
  /** Bytes. */
  readonly cacheMaxSize: number;
  readonly fallback: 'none' | 'engine';
  readonly insecure: boolean;
  /** Extra CA certificates, PEM text. */
  readonly ca: string | undefined;
  readonly dryRun: boolean;
  /** A folder of ours, the same in every run on this machine: spool and compressed layers lie in it. */
  readonly workDir: string;
  readonly env: NodeJS.ProcessEnv;
}

/** Converts texts (the action's inputs, the terminal's flags) into a request. Checked at the door: nothing has been sent yet. */

/** The inputs as texts, by the names of action.yml; empty or absent means the default. */
export type RawInputs = Readonly<Partial<Record<InputName, string>>>;

/** Every input, by its name in action.yml. */
export const INPUT_NAMES = [
  'image',
  'tags',
  'username',
  'password',
  'engine',
  'export',
  'platforms',
  'chunk-size',
  'concurrency',
  'max-retries',
  'compression',
  'compression-level',
  'cache',
  'cache-from',
  'cache-max-size',
  'fallback',
  'insecure',
  'ca-file',
  'dry-run',
] as const;

export type InputName = (typeof INPUT_NAMES)[number];

/** What the caller knows beside the inputs. */
export type Surroundings = Pick<PushRequest, 'workDir' | 'env' | 'remoteCache'>;

/** Uploads beyond this only take memory from each other; docker's own maximum is far below. */
const MAX_CONCURRENCY = 64;
const MAX_RETRIES = 100;
/** Node reads files and buffers with numbers up to this. */
const MAX_BYTES = Number.MAX_SAFE_INTEGER;
const MAX_LEVEL = { gzip: 12, zstd: 19 } as const;

/** An input that can't be used: its name, what is wrong with it, and one that is right. */
export class InputError extends PushError {
  constructor(name: InputName, problem: string, example: string, cause?: unknown) {
    super('Input', `${name}: ${problem}`, { remedy: example, ...(cause === undefined ? {} : { cause }) });
    this.name = 'InputError';
  }
}

/** Checks every input. Throws InputError for the first that can't be used. */
export function parseRequest(raw: RawInputs, surroundings: Surroundings): PushRequest {
  const text = (name: InputName): string => (raw[name] ?? '').trim();
  const image = text('image');
  if (image === '')
    throw new InputError('image', 'it is missing', 'write for example image: registry.example.com/team/app:1.2');
  const compression = choice('compression', text('compression'), ['gzip', 'zstd']);
  return {
    image,
    destinations: destinations(image, text('tags')),
    credentials: credentials(text('username'), raw.password ?? ''),
    engine: choice('engine', text('engine'), ['auto', 'docker', 'podman']),
    export: choice('export', text('export'), ['auto', 'save', 'store']),
    platforms: list(text('platforms')).map(platform),
    chunkSize: ['', 'auto'].includes(text('chunk-size')) ? 'auto' : bytes('chunk-size', text('chunk-size'), '95MB'),
    concurrency: whole('concurrency', text('concurrency') || '5', 1, MAX_CONCURRENCY),
    maxRetries: whole('max-retries', text('max-retries') || '3', 0, MAX_RETRIES),
    compression,
    compressionLevel: text('compression-level')
      ? whole('compression-level', text('compression-level'), 1, MAX_LEVEL[compression])
      : undefined,
    cache: flag('cache', text('cache') || 'true'),
    cacheFrom: text('cache-from') ? list(text('cache-from')).map((one) => reference('cache-from', one)) : undefined,
    cacheMaxSize: bytes('cache-max-size', text('cache-max-size') || '2GiB', '2GiB'),
    fallback: choice('fallback', text('fallback'), ['none', 'engine']),
    insecure: flag('insecure', text('insecure') || 'false'),
    ca: text('ca-file') ? certificates(text('ca-file')) : undefined,
    dryRun: flag('dry-run', text('dry-run') || 'false'),
    ...surroundings,
  };
}

/** One item a line or comma-separated, as docker/metadata-action gives them. */
const list = (text: string): string[] =>
  text
    .split(/[\n,]/)
    .map((item) => item.trim())
    .filter((item) => item !== '');

function choice<const T extends string>(name: InputName, text: string, choices: readonly [T, ...T[]]): T {
  if (text === '') return choices[0];
  const found = choices.find((one) => one === text.toLowerCase());
  if (found) return found;
  throw new InputError(
    name,
    `${JSON.stringify(text)} is not one of ${choices.join(', ')}`,
    `write ${name}: ${choices[0]}`,
  );
}

/** YAML 1.2's own booleans, as @actions/core reads them. */
function flag(name: InputName, text: string): boolean {
  if (/^(true|True|TRUE)$/.test(text)) return true;
  if (/^(false|False|FALSE)$/.test(text)) return false;
  throw new InputError(name, `${JSON.stringify(text)} is neither true nor false`, `write ${name}: true`);
}

function whole(name: InputName, text: string, min: number, max: number): number {
  const value = Number(text);
  if (/^\d+$/.test(text) && value >= min && value <= max) return value;
  throw new InputError(
    name,
    `${JSON.stringify(text)} is not a whole number from ${min} to ${max}`,
    `write ${name}: ${Math.max(min, 5)}`,
  );
}

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

/** A number of bytes, or with a unit: `MB` is 10^6, `MiB` is 2^20. */
function bytes(name: InputName, text: string, example: string): number {
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

function credentials(username: string, password: string): PushRequest['credentials'] {
  if (username !== '' && password !== '') return { username, password };
  if (username === '' && password === '') return undefined;
  const [missing, given] = username === '' ? (['username', 'password'] as const) : (['password', 'username'] as const);
  throw new InputError(
    missing,
    `it is empty though ${given} is set`,
    'set both (is the secret defined for this workflow?), or neither after docker/login-action',
  );
}

/** Runs a check of another room, and names the input in its error. */
function checked<T>(name: InputName, check: () => T): T {
  try {
    return check();
  } catch (error) {
    const { message, remedy } = explain(error);
    throw new InputError(name, message, remedy ?? '', error);
  }
}

function platform(text: string): string {
  checked('platforms', () => parsePlatform(text));
  return text;
}

const reference = (name: InputName, text: string): Reference => checked(name, () => parseReference(text));

/** Sources and IDs have no name to push to. */
const IS_FILE_SOURCE = /^(docker-archive|oci-archive|oci):/;
const IS_ID = /^(sha256:)?[0-9a-f]{64}$|^sha256:[0-9a-f]+$/;

function destinations(image: string, tags: string): readonly Reference[] {
  const texts = list(tags);
  if (texts.length === 0 && (IS_FILE_SOURCE.test(image) || IS_ID.test(image))) {
    throw new InputError(
      'tags',
      `they are missing, and ${image} has no name to push to`,
      'write for example tags: registry.example.com/team/app:1.2',
    );
  }
  const name: InputName = texts.length === 0 ? 'image' : 'tags';
  const references = (texts.length === 0 ? [image] : texts).map((text) => destination(name, text));
  return [...new Map(references.map((one) => [`${one.apiHost}/${one.repository}:${one.tag}`, one])).values()];
}

function destination(name: InputName, text: string): Reference {
  const parsed = reference(name, text);
  if (parsed.digest === undefined) return withDefaultTag(parsed);
  throw new InputError(
    name,
    `${JSON.stringify(text)} has a digest, and a digest can't be pushed to`,
    'name a tag: registry.example.com/team/app:1.2 (for an image by digest, set tags)',
  );
}

function certificates(path: string): string {
  try {
    return certificatesIn(readFileSync(path)).join('\n');
  } catch (cause) {
    const { message, code } = cause as NodeJS.ErrnoException;
    const problem = code === undefined ? `${path} ${message}` : `${path} can't be read: ${message}`;
    throw new InputError('ca-file', problem, 'name a file of certificates in PEM form, or one in DER form', cause);
  }
}
