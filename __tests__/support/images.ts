/**
 * Images made on the spot from a seed: by a real engine (`docker build` FROM scratch, so nothing is fetched), or as a
 * docker-archive file for machines without one. Contents are streamed: sizes from nothing to gigabytes in constant memory.
 */
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { createWriteStream } from 'node:fs';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { type Pack, pack } from 'tar-stream';
import { type Digest, digestOf } from '../../src/oci/types.ts';
import { type Content, contentOf } from './content.ts';

/** One layer: some files with contents from the seed, the same bytes as an earlier layer, or a layer without a file. */
export type LayerRecipe =
  | { readonly bytes: number; readonly content?: Content; readonly files?: number }
  | { readonly repeat: number }
  | 'empty';

export interface ImageRecipe {
  /** Other seeds give other bytes in every layer. */
  readonly seed: string;
  readonly layers: readonly LayerRecipe[];
  /** What the history of an archive's config says of each layer (`created_by`). */
  readonly steps?: readonly string[];
}

const MB = 1_000_000;

/** Six layers with every special case; about 13 MB. */
export const smallRecipe = (seed: string): ImageRecipe => ({
  seed,
  layers: [
    { bytes: 3 * MB, files: 12 },
    { bytes: 7 * MB, content: 'random' },
    'empty',
    { repeat: 0 },
    { bytes: 3 * MB, content: 'text', files: 3 },
    { bytes: 1 },
  ],
});

/** Six layers of `bytes` in all, one of them with 58 % of the bytes: the shape that brings people here. */
export const giantLayerRecipe = (seed: string, bytes: number): ImageRecipe => {
  const share = (percent: number) => Math.round((bytes * percent) / 100);
  return {
    seed,
    layers: [
      { bytes: share(5), files: 400 },
      { bytes: share(12), files: 40 },
      { bytes: share(58), files: 6 },
      { bytes: share(20), files: 100 },
      { bytes: share(4.5), content: 'random', files: 4 },
      { bytes: share(0.5), content: 'text', files: 50 },
    ],
  };
};

/** How an engine is told to build: its client's command and what the client needs in its environment. */
export interface Builder {
  readonly command: string;
  readonly env: Readonly<Record<string, string | undefined>>;
}

/**
 * Builds the recipe's image under `reference` by the engine's classic builder (BuildKit's client is a package of its own that is
 * not everywhere). An empty layer becomes a folder, and the containerd image store leaves out a repeated one. Throws an Error
 * with what the engine printed.
 */
export const buildImage = (builder: Builder, reference: string, recipe: ImageRecipe): Promise<void> =>
  feed(
    { ...builder, env: { ...builder.env, DOCKER_BUILDKIT: '0' } },
    ['build', '--quiet', '--tag', reference, '-'],
    contextOf(recipe),
  );

/**
 * Loads the recipe's image from an archive: exactly the recipe's layers, also an empty and a repeated one. The containerd
 * image store keeps them uncompressed then. Throws an Error with what the engine printed.
 */
export const loadImage = async (builder: Builder, reference: string, recipe: ImageRecipe): Promise<WrittenImage> => {
  const { archive, image } = archiveOf(reference, recipe);
  await feed(builder, ['load', '--quiet'], archive);
  return image();
};

/** Runs the client with a tar stream as its input. */
const feed = async (builder: Builder, args: readonly string[], tar: Pack): Promise<void> => {
  const child = spawn(builder.command, args, {
    env: { ...process.env, ...builder.env },
    stdio: ['pipe', 'pipe', 'pipe'],
  });
  const printed: string[] = [];
  for (const stream of [child.stdout, child.stderr])
    stream.on('data', (chunk: Buffer) => printed.push(chunk.toString()));
  const ended = new Promise<number | null>((resolve, reject) => child.once('close', resolve).once('error', reject));
  const fed = pipeline(tar, child.stdin).catch((error: unknown) => error);
  const [code, failure] = await Promise.all([ended, fed]);
  if (code === 0 && failure === undefined) return;
  throw new Error(`${builder.command} ${args.join(' ')} ended with ${code}:\n${printed.join('')}`, { cause: failure });
};

/** The build context as a tar stream: a Dockerfile and one folder a layer. */
const contextOf = (recipe: ImageRecipe): Pack =>
  written(async (tar) => {
    await addFile(tar, 'Dockerfile', dockerfileOf(recipe));
    for (const [index, layer] of recipe.layers.entries()) {
      await addFolder(tar, `layer${index}/`);
      if (sourceOf(layer, index) === index) await addFiles(tar, `layer${index}/`, recipe, index);
    }
  });

/** The layer whose files a layer has: its own, or those of the earlier one that it repeats. */
const sourceOf = (layer: LayerRecipe, index: number): number =>
  layer !== 'empty' && 'repeat' in layer ? layer.repeat : index;

const dockerfileOf = (recipe: ImageRecipe): string =>
  [
    'FROM scratch',
    ...recipe.layers.map((layer, index) =>
      layer === 'empty' ? `WORKDIR /empty${index}` : `COPY layer${sourceOf(layer, index)}/ /`,
    ),
    `ENV SEED=${JSON.stringify(recipe.seed)}`,
    'CMD ["/layer0-file0"]',
    '',
  ].join('\n');

export interface WrittenImage {
  readonly configDigest: Digest;
  readonly diffIds: readonly Digest[];
}

/**
 * Writes the recipe's image as a docker-archive file in the old form (`<n>/layer.tar`, config and manifest.json last), as
 * Docker up to 24 saves it, with `reference` as its tag. Gives the digests that a push of it must end with.
 */
export const writeDockerArchive = async (
  file: string,
  reference: string,
  recipe: ImageRecipe,
): Promise<WrittenImage> => {
  const { archive, image } = archiveOf(reference, recipe);
  await pipeline(archive, createWriteStream(file));
  return image();
};

/** The archive as a stream, and what is known when it has ended. */
const archiveOf = (
  reference: string,
  recipe: ImageRecipe,
): { readonly archive: Pack; readonly image: () => WrittenImage } => {
  const diffIds: Digest[] = [];
  const config = () => Buffer.from(JSON.stringify(configOf(recipe, diffIds)));
  const archive = written(async (tar) => {
    for (const index of recipe.layers.keys()) diffIds.push(await addLayer(tar, recipe, index));
    const configName = `${digestOf(config()).slice('sha256:'.length)}.json`;
    await addFile(tar, configName, config());
    const layers = recipe.layers.map((_, index) => `${index}/layer.tar`);
    await addFile(
      tar,
      'manifest.json',
      JSON.stringify([{ Config: configName, RepoTags: [reference], Layers: layers }]),
    );
  });
  return { archive, image: () => ({ configDigest: digestOf(config()), diffIds }) };
};

const configOf = (recipe: ImageRecipe, diffIds: readonly Digest[]): object => ({
  architecture: process.arch === 'x64' ? 'amd64' : process.arch,
  os: 'linux',
  created: EPOCH.toISOString(),
  config: { Env: [`SEED=${recipe.seed}`], Cmd: ['/layer0-file0'] },
  rootfs: { type: 'layers', diff_ids: diffIds },
  history: diffIds.map((_, index) => ({
    created: EPOCH.toISOString(),
    created_by: recipe.steps?.[index] ?? `COPY layer${index}/ /`,
  })),
});

/** Adds a layer as an entry of the archive and gives its diffID. */
const addLayer = async (archive: Pack, recipe: ImageRecipe, index: number): Promise<Digest> => {
  const source = sourceOf(recipe.layers[index]!, index);
  const layer = written((tar) => addFiles(tar, '', recipe, source));
  const hash = createHash('sha256');
  const entry = archive.entry({ name: `${index}/layer.tar`, size: tarSize(filesOf(recipe, source)), mtime: EPOCH });
  const hashed = async function* (): AsyncGenerator<Buffer> {
    for await (const block of layer as AsyncIterable<Buffer>) {
      hash.update(block);
      yield block;
    }
  };
  await pipeline(hashed, entry);
  return `sha256:${hash.digest('hex')}`;
};

const EPOCH = new Date('2024-01-01T00:00:00Z');
const TAR_BLOCK = 512;

interface SeededFile {
  readonly name: string;
  readonly bytes: number;
}

/** The files of a layer, of equal size but the last, which has what is left. */
const filesOf = (recipe: ImageRecipe, index: number): readonly SeededFile[] => {
  const layer = recipe.layers[index]!;
  if (layer === 'empty' || 'repeat' in layer) return [];
  const count = Math.max(1, Math.min(layer.files ?? 1, layer.bytes));
  const each = Math.floor(layer.bytes / count);
  return Array.from({ length: count }, (_, file) => ({
    name: `layer${index}-file${file}`,
    bytes: file === count - 1 ? layer.bytes - each * (count - 1) : each,
  }));
};

/** Bytes of a tar with these files: a header and padded contents each, and two blocks of zeros as its end. */
const tarSize = (files: readonly SeededFile[]): number =>
  files.reduce((sum, { bytes }) => sum + TAR_BLOCK + Math.ceil(bytes / TAR_BLOCK) * TAR_BLOCK, 2 * TAR_BLOCK);

/** A tar stream that `write` fills; an error of it is an error of the stream. */
const written = (write: (tar: Pack) => Promise<void>): Pack => {
  const tar = pack();
  write(tar).then(
    () => tar.finalize(),
    (error: unknown) => tar.destroy(error instanceof Error ? error : new Error(String(error))),
  );
  return tar;
};

const addFiles = async (tar: Pack, folder: string, recipe: ImageRecipe, index: number): Promise<void> => {
  const layer = recipe.layers[index]!;
  const content = (layer !== 'empty' && 'bytes' in layer && layer.content) || 'mixed';
  for (const { name, bytes } of filesOf(recipe, index)) {
    const entry = tar.entry({ name: `${folder}${name}`, size: bytes, mtime: EPOCH, mode: 0o644 });
    await pipeline(Readable.from(contentOf(content, `${recipe.seed}/${name}`, bytes)), entry);
  }
};

const addFile = (tar: Pack, name: string, body: string | Buffer): Promise<void> =>
  new Promise((resolve, reject) => {
    tar.entry({ name, mtime: EPOCH }, body, (error) => (error ? reject(error) : resolve()));
  });

const addFolder = (tar: Pack, name: string): Promise<void> =>
  new Promise((resolve, reject) => {
    tar.entry({ name, type: 'directory', mtime: EPOCH, mode: 0o755 }, (error) => (error ? reject(error) : resolve()));
  });
