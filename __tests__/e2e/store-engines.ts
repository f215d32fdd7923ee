/** Engines whose own files the tests look into: where an image's config, its layers and their records lie. */
import { join } from 'node:path';
import { chainIdsOf, type Digest, type Index, type Manifest } from '../../src/oci/types.ts';
import { buildImage, type ImageRecipe } from '../support/images.ts';
import { type DockerOptions, docker, imageIdOf, partOfDocker } from '../support/real/docker.ts';
import { commandOf, type PartName } from '../support/real/parts.ts';
import { type Podman, startPodman } from '../support/real/podman.ts';
import { asRoot, run } from '../support/real/processes.ts';
import { sharedDocker } from '../support/real/suite.ts';

/** A file or folder of the store; undefined where this kind of store has none. */
export interface StoreFiles {
  /** The image's config. */
  readonly config: string;
  /** Of the top layer: a file with a part of its bytes. */
  readonly content: string;
  /** Of the top layer: what tells how its tar was put together. */
  readonly record: string | undefined;
  /** Everything that belongs to the top layer alone. */
  readonly layer: readonly string[];
  /** Manifests and lists of the image: what any reader of it must look into, beside the config. */
  readonly documents: readonly string[];
}

export interface StoreEngine {
  readonly env: Readonly<Record<string, string>>;
  /** The engine's own client, its full path. */
  readonly command: string;
  /** The folder of all of the engine's files. */
  readonly root: string;
  readonly imageId: Digest;
  readonly diffIds: readonly Digest[];
  run(...args: readonly string[]): Promise<string>;
  /** Where the files of an image lie. */
  filesOf(reference: string): Promise<StoreFiles>;
  stop(): Promise<void>;
}

export interface StoreKind {
  readonly name: string;
  readonly tool: 'docker' | 'podman';
  readonly part: PartName;
  /** Whether layers lie unpacked in folders; else compressed, a file each. */
  readonly unpacked: boolean;
  /** Whether the engine pushes a manifest of its own, whose digest ours must be. */
  readonly keepsManifests: boolean;
  start(reference: string, recipe: ImageRecipe): Promise<StoreEngine>;
}

/** The name of the last file of a recipe's layer, as images.ts names it. */
const lastFile = (recipe: ImageRecipe): string => {
  const layer = recipe.layers.at(-1)!;
  const files = typeof layer === 'object' && 'bytes' in layer ? (layer.files ?? 1) : 0;
  return `layer${recipe.layers.length - 1}-file${files - 1}`;
};

/** A file that only root may read. */
const readAsRoot = (path: string): Promise<string> => {
  const [program, ...args] = asRoot(['cat', path]);
  return run(program!, args);
};

const hexOf = (digest: string): string => digest.replace('sha256:', '');

type Inspected = Pick<StoreEngine, 'imageId' | 'diffIds'>;

const inspect = async (client: StoreEngine['run'], reference: string): Promise<Inspected> => {
  const [image] = JSON.parse(await client('image', 'inspect', reference)) as [
    { Id: string; RootFS: { Layers: Digest[] } },
  ];
  return { imageId: `sha256:${hexOf(image.Id)}`, diffIds: image.RootFS.Layers };
};

const overlay2Files = async (root: string, { imageId, diffIds }: Inspected, file: string): Promise<StoreFiles> => {
  const record = join(root, 'image/overlay2/layerdb/sha256', hexOf(chainIdsOf(diffIds).at(-1)!));
  const folder = join(root, 'overlay2', await readAsRoot(join(record, 'cache-id')));
  return {
    config: join(root, 'image/overlay2/imagedb/content/sha256', hexOf(imageId)),
    content: join(folder, 'diff', file),
    record: join(record, 'tar-split.json.gz'),
    layer: [record, folder],
    documents: [],
  };
};

const contentFiles = async (root: string, { imageId }: Inspected): Promise<StoreFiles> => {
  const blobs = join(root, 'containerd/daemon/io.containerd.content.v1.content/blobs/sha256');
  const document = async (digest: string) => JSON.parse(await readAsRoot(join(blobs, hexOf(digest))));
  let manifest = (await document(imageId)) as Manifest & Partial<Index>;
  const documents = [imageId, ...(manifest.manifests ?? []).map(({ digest }) => digest)];
  if (manifest.manifests) manifest = await document(manifest.manifests[0]!.digest);
  const [config, layer] = [manifest.config, manifest.layers.at(-1)!].map(({ digest }) => join(blobs, hexOf(digest)));
  return {
    config: config!,
    content: layer!,
    record: undefined,
    layer: [layer!],
    documents: documents.map((digest) => join(blobs, hexOf(digest))),
  };
};

const podmanFiles = async (root: string, { imageId, diffIds }: Inspected, file: string): Promise<StoreFiles> => {
  const layers = JSON.parse(await readAsRoot(join(root, 'overlay-layers/layers.json'))) as Record<string, string>[];
  const { id } = layers.find((layer) => layer['diff-digest'] === diffIds.at(-1)) as { id: string };
  const record = join(root, `overlay-layers/${id}.tar-split.gz`);
  return {
    config: join(root, 'overlay-images', hexOf(imageId), `=${Buffer.from(imageId).toString('base64')}`),
    content: join(root, 'overlay', id, 'diff', file),
    record,
    layer: [record, join(root, 'overlay', id)],
    documents: ['overlay-images/images.json', 'overlay-layers/layers.json', 'overlay-layers/volatile-layers.json'].map(
      (name) => join(root, name),
    ),
  };
};

const dockerKind = (options: DockerOptions): StoreKind => ({
  name: `docker ${options.version} (${options.store})`,
  tool: 'docker',
  part: partOfDocker(options.version),
  unpacked: options.store === 'overlay2',
  keepsManifests: options.store === 'containerd',
  async start(reference, recipe) {
    const engine = await sharedDocker(options);
    const command = commandOf(partOfDocker(options.version), 'docker');
    await buildImage({ command, env: engine.env }, reference, recipe);
    const client = (...args: readonly string[]) => docker(engine, ...args);
    const locate = options.store === 'overlay2' ? overlay2Files : contentFiles;
    return {
      env: engine.env,
      command,
      root: engine.dataRoot,
      ...(await inspect(client, reference)),
      imageId: (await imageIdOf(engine, reference)) as Digest,
      run: client,
      filesOf: async (name) => locate(engine.dataRoot, await inspect(client, name), lastFile(recipe)),
      stop: async () => void (await client('image', 'rm', '--force', reference)),
    };
  },
});

/** Debian's Podman with an image in it, as a StoreEngine. */
export const podmanEngine = async (podman: Podman, reference: string, recipe: ImageRecipe): Promise<StoreEngine> => {
  const command = commandOf('podman', 'podman');
  await buildImage({ command, env: podman.env }, reference, recipe);
  return {
    env: podman.env,
    command,
    root: podman.storage,
    ...(await inspect(podman.run, reference)),
    run: podman.run,
    filesOf: async (name) => podmanFiles(podman.storage, await inspect(podman.run, name), lastFile(recipe)),
    stop: podman.stop,
  };
};

export const STORES: readonly StoreKind[] = [
  dockerKind({ version: 'debian', store: 'overlay2' }),
  dockerKind({ version: 'trixie', store: 'overlay2' }),
  dockerKind({ version: 'trixie', store: 'containerd' }),
  {
    name: 'podman',
    tool: 'podman',
    part: 'podman',
    unpacked: true,
    keepsManifests: false,
    start: async (reference, recipe) => podmanEngine(await startPodman(), reference, recipe),
  },
];
