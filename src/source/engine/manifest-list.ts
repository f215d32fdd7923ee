/**
 * Manifest lists in Podman's storage (`podman manifest create`, `podman build --manifest`). Every other command of
 * Podman takes the image of this machine's platform for the list: only `podman manifest` reports what a list names.
 */

import { ImageError } from '../../common/error.ts';
import { findProgram } from '../../common/platform.ts';
import { readDocument } from '../../oci/documents.ts';
import { sameReference } from '../../oci/reference.ts';
import { type Descriptor, type Digest, digestOf, type Index, isDigest, MediaType } from '../../oci/types.ts';
import { type Answer, type CommandOptions, type EngineName, firstErrorLine, run } from './command.ts';
import { isScript } from './docker-api.ts';
import { ANSWER_MS, type EngineImage, type Inspect, imageFrom } from './inspect.ts';

/** A manifest list as Podman has it. */
export interface EngineList {
  /** `docker` where that command is podman-docker's. */
  readonly engine: EngineName;
  /** The tool's path, for further commands. */
  readonly tool: string;
  /** As the engine was asked. */
  readonly name: string;
  /** The list's ID in Podman's storage. */
  readonly imageId: Digest;
  readonly index: Index;
  readonly instances: readonly ListInstance[];
  readonly env: NodeJS.ProcessEnv;
}

/** A manifest that the list names, and its image; undefined for one that was added from a registry and never pulled. */
interface ListInstance {
  readonly descriptor: Descriptor;
  readonly image: EngineImage | undefined;
}

export const isList = (found: EngineImage | EngineList): found is EngineList => 'instances' in found;

/** A row of `podman images --format json`, the part that is read here. */
interface ImageRow {
  readonly Id?: unknown;
  readonly Names?: unknown;
  readonly Digest?: unknown;
  readonly RepoDigests?: unknown;
}

/**
 * The list of that name; undefined when it is an image, or nothing. `podman manifest inspect` would ask a registry for
 * a name that the storage does not have, so `exists` comes first. Throws ImageError, and the signal's reason.
 */
export async function findManifestList(
  engine: EngineName,
  name: string,
  options: CommandOptions,
): Promise<EngineList | undefined> {
  const tool = findProgram(engine, options.env);
  // Docker has no manifest lists of its own, and a `docker manifest` that knows registries only.
  if (!tool || (engine === 'docker' && !(isScript(tool) && (await isPodman(tool, options))))) return undefined;
  if (!(await answer(tool, ['manifest', 'exists', name], options))) return undefined;
  const [listed, images] = await Promise.all([
    output(tool, ['manifest', 'inspect', name], options),
    output(tool, ['images', '--all', '--no-trunc', '--format', 'json'], options),
  ]);
  const bytes = Buffer.from(listed);
  const document = readDocument(bytes, `the manifest list ${name} of podman`, MediaType.ociIndex);
  if (document.kind !== 'index') throw new ImageError('Resolve', `podman manifest inspect ${name} printed no index`);
  const rows = JSON.parse(images) as ImageRow[];
  return {
    engine,
    tool,
    name,
    imageId: listId(rows, name) ?? digestOf(bytes),
    index: document.index,
    instances: await instancesOf(document.index, rows, { engine, tool, options }),
    env: options.env,
  };
}

/** Whether a `docker` command is podman-docker's. */
const isPodman = async (tool: string, options: CommandOptions): Promise<boolean> =>
  /^podman/i.test((await answer(tool, ['--version'], options))?.stdout ?? '');

/**
 * What a tool answers when it succeeds. Undefined also when it can't be started or does not answer: `image inspect`,
 * asked at the same time, reports that.
 */
async function answer(tool: string, args: readonly string[], options: CommandOptions): Promise<Answer | undefined> {
  const signal = AbortSignal.any([options.signal, AbortSignal.timeout(ANSWER_MS)]);
  try {
    const answer = await run(tool, args, { ...options, signal });
    return answer.code === 0 ? answer : undefined;
  } catch {
    options.signal.throwIfAborted();
    return undefined;
  }
}

async function instancesOf(
  { manifests }: Index,
  rows: readonly ImageRow[],
  { engine, tool, options }: { engine: EngineName; tool: string; options: CommandOptions },
): Promise<ListInstance[]> {
  const ids = manifests.map(({ digest }) => rows.find((row) => digestsOf(row).includes(digest))?.Id);
  const present = [...new Set(ids.filter((id) => typeof id === 'string'))];
  const inspected =
    present.length === 0
      ? []
      : (JSON.parse(await output(tool, ['image', 'inspect', ...present], options)) as Inspect[]);
  const images = new Map<unknown, EngineImage | undefined>();
  for (const inspect of inspected) {
    const image = imageFrom({ engine, tool, name: String(inspect.Id), options }, inspect);
    images.set(inspect.Id, image);
  }
  return manifests.map((descriptor, position) => ({ descriptor, image: images.get(ids[position]) }));
}

/** The digests of an image's manifests: a pulled one may have several. */
function digestsOf({ Digest: digest, RepoDigests: named }: ImageRow): unknown[] {
  const others = Array.isArray(named) ? named.map((name) => String(name).split('@')[1]) : [];
  return [digest, ...others];
}

function listId(rows: readonly ImageRow[], name: string): Digest | undefined {
  const row = rows.find(({ Id: id, Names: names }) => {
    if (
      typeof id === 'string' &&
      /^(sha256:)?[0-9a-f]{12,}$/.test(name) &&
      id.startsWith(name.replace('sha256:', ''))
    ) {
      return true;
    }
    return Array.isArray(names) && names.some((one) => isNameOf(String(one), name));
  });
  const id = `sha256:${row?.Id}`;
  return isDigest(id) ? id : undefined;
}

/** Podman finds `app:1` as `localhost/app:1`. */
const isNameOf = (full: string, name: string): boolean =>
  full === name || sameReference(full, name) || sameReference(full, `localhost/${name}`);

async function output(tool: string, args: readonly string[], options: CommandOptions): Promise<string> {
  const { code, stdout, stderr } = await run(tool, args, options);
  if (code === 0) return stdout;
  throw new ImageError(
    'Resolve',
    `podman ${args.slice(0, 2).join(' ')} ended with exit code ${code}: ${firstErrorLine(stderr)}`,
  );
}
