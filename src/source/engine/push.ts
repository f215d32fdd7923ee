/** The engine's own push, for when ours has failed and the user asked for a fallback. */

import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ImageError } from '../../common/error.ts';
import { type Digest, isDigest } from '../../oci/types.ts';
import type { EnginePush } from '../source.ts';
import { type CommandOptions, firstErrorLine, run } from './command.ts';
import type { EngineImage } from './inspect.ts';
import { type EngineList, isList } from './manifest-list.ts';

type Options = EnginePush & CommandOptions;

/**
 * Pushes an image under a reference (`registry/repository:tag`) with `docker push` or `podman push`. Returns the digest
 * that the engine reports. Throws ImageError (step Fallback) with the engine's message.
 */
export async function enginePush(
  image: EngineImage | EngineList,
  reference: string,
  push: EnginePush,
): Promise<Digest> {
  const options: Options = { ...push, env: { ...image.env, ...push.env } };
  return image.engine === 'podman' || isList(image)
    ? podmanPush(image, reference, options)
    : dockerPush(image, reference, options);
}

async function podmanPush(image: EngineImage | EngineList, reference: string, options: Options): Promise<Digest> {
  const folder = await mkdtemp(join(tmpdir(), 'chunked-push-fallback-'));
  try {
    const file = join(folder, 'digest');
    // Docker has this in its daemon's configuration.
    const plain = options.insecure ? ['--tls-verify=false'] : [];
    const command = isList(image) ? ['manifest', 'push', '--all'] : ['push'];
    const name = isList(image) ? image.name : image.imageId;
    await must(image, [...command, '--digestfile', file, ...plain, name, `docker://${reference}`], options);
    return reported(image, reference, (await readFile(file, 'utf8')).trim());
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** Docker pushes names only: the image gets the name for as long as it takes, and what had it before gets it back. */
async function dockerPush(image: EngineImage | EngineList, reference: string, options: Options): Promise<Digest> {
  const before = await run(image.tool, ['image', 'inspect', '--format', '{{.Id}}', reference], options);
  const holder = before.code === 0 ? before.stdout.trim() : undefined;
  if (holder !== image.imageId) await must(image, ['tag', image.imageId, reference], options);
  try {
    const output = await must(image, ['push', reference], options);
    return reported(image, reference, /digest: (sha256:[0-9a-f]{64})/.exec(output)?.[1]);
  } finally {
    const restore = holder === undefined ? ['rmi', '--no-prune', reference] : ['tag', holder, reference];
    // After a cancel too: the name would stay.
    const always = { ...options, signal: AbortSignal.timeout(RESTORE_MS) };
    if (holder !== image.imageId) await run(image.tool, restore, always).catch((error) => options.debug(String(error)));
  }
}

/** Restoring a name is a matter of milliseconds. */
const RESTORE_MS = 30_000;

async function must(image: EngineImage | EngineList, args: readonly string[], options: Options): Promise<string> {
  options.debug(`running ${image.tool} ${args.join(' ')}`);
  const { code, stdout, stderr } = await run(image.tool, args, options);
  if (code === 0) return stdout;
  const message = firstErrorLine(stderr) || firstErrorLine(stdout);
  throw new ImageError('Fallback', `${image.engine} ${args[0]} failed with exit code ${code}: ${message}`);
}

function reported(image: EngineImage | EngineList, reference: string, digest: string | undefined): Digest {
  if (isDigest(digest)) return digest;
  throw new ImageError('Fallback', `${image.engine} push ${reference} ended well but named no digest`);
}
