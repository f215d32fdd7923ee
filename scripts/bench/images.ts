/** The benchmark's images, and how they come into an engine. */
import { spawn } from 'node:child_process';
import { pipeline } from 'node:stream/promises';
import { type Pack, pack } from 'tar-stream';
import { type DockerAddress, docker, partOfDocker } from '../../__tests__/support/real/docker.ts';
import { commandOf } from '../../__tests__/support/real/parts.ts';
import { type LayerFile, layerFiles } from './content.ts';

/** An image: its layers' bytes. The last layer is the small one that a rebuild changes. */
export interface ImageRecipe {
  /** Part of its name in the engines. */
  readonly name: string;
  readonly layers: readonly number[];
}

/** As it was built first, and with other bytes in the last layer. */
export type Version = 'v1' | 'v2';

const MB = 1_000_000;
const SMALL_LAYER = 2 * MB;

/** 64 MB in 4 layers. */
export const SIXTY: ImageRecipe = { name: '60mb', layers: [40 * MB, 15 * MB, 7 * MB, SMALL_LAYER] };

/** Six layers, one of 58 % of all bytes (990 MB of 1.7 GB), the last one of 2 MB. */
export const giant = (name: string, bytes: number): ImageRecipe => {
  const shares = [0.58, 0.25, 0.11, 0.045].map((share) => Math.round(bytes * share));
  const rest = bytes - SMALL_LAYER - shares.reduce((sum, share) => sum + share, 0);
  return { name, layers: [...shares, rest, SMALL_LAYER] };
};

/** What an image is called in every engine. */
export const nameOf = ({ name }: ImageRecipe, version: Version): string => `chunked-push-bench/${name}:${version}`;

/** Builds what the engine lacks of both versions by its classic builder, which knows the shared layers again. Throws an Error with its words. */
export async function buildVersions(
  engine: DockerAddress,
  recipe: ImageRecipe,
  versions: readonly Version[],
): Promise<void> {
  const base = `chunked-push-bench/${recipe.name}:base`;
  for (const version of versions) {
    if (await hasImage(engine, nameOf(recipe, version))) continue;
    if (!(await hasImage(engine, base))) await build(engine, base, 'scratch', recipe.layers.slice(0, -1), recipe.name);
    await build(engine, nameOf(recipe, version), base, recipe.layers.slice(-1), `${recipe.name} ${version}`);
  }
}

export const hasImage = (engine: DockerAddress, reference: string): Promise<boolean> =>
  docker(engine, 'image', 'inspect', reference).then(
    () => true,
    () => false,
  );

const build = (engine: DockerAddress, tag: string, from: string, layers: readonly number[], seed: string) =>
  feed(engine, tag, contextOf(from, layers, seed));

/** The build context as a tar stream: a Dockerfile and one folder a layer. */
function contextOf(from: string, layers: readonly number[], seed: string): Pack {
  const tar = pack();
  const write = async () => {
    const copies = layers.map((_, index) => `COPY layer${index}/ /`);
    const dockerfile = [`FROM ${from}`, ...copies, 'CMD ["/usr/bin/true"]', ''].join('\n');
    tar.entry({ name: 'Dockerfile', mtime: EPOCH }, dockerfile);
    for (const [index, bytes] of layers.entries()) {
      for (const file of layerFiles(`${seed} ${index}`, bytes)) await addFile(tar, `layer${index}/`, file);
    }
    tar.finalize();
  };
  write().catch((error: unknown) => tar.destroy(error instanceof Error ? error : new Error(String(error))));
  return tar;
}

const EPOCH = new Date('2024-01-01T00:00:00Z');

async function addFile(tar: Pack, folder: string, { name, bytes, open }: LayerFile): Promise<void> {
  await pipeline(open(), tar.entry({ name: `${folder}${name}`, size: bytes, mtime: EPOCH, mode: 0o755 }));
}

async function feed(engine: DockerAddress, tag: string, context: Pack): Promise<void> {
  const child = spawn(commandOf(partOfDocker(engine.version), 'docker'), ['build', '--quiet', '--tag', tag, '-'], {
    env: { ...process.env, ...engine.env, DOCKER_BUILDKIT: '0' },
    stdio: ['pipe', 'ignore', 'pipe'],
  });
  let printed = '';
  child.stderr.on('data', (chunk: Buffer) => {
    printed += chunk.toString();
  });
  const ended = new Promise<number | null>((resolve, reject) => child.once('close', resolve).once('error', reject));
  const fed = pipeline(context, child.stdin).catch((error: unknown) => error);
  const [code, failure] = await Promise.all([ended, fed]);
  if (code === 0 && failure === undefined) return;
  throw new Error(`docker build of ${tag} ended with ${code}:\n${printed}`, { cause: failure });
}
