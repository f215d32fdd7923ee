/** Opening real engines' stores in tests, and reading them whole. */
import { createHash } from 'node:crypto';
import type { Readable } from 'node:stream';
import type { Digest, Manifest } from '../../../src/oci/types.ts';
import type { StoreSource } from '../../../src/source/source.ts';
import { type EngineFacts, openEngineStore } from '../../../src/source/store/open.ts';
import { run } from '../../support/real/processes.ts';

export interface Client {
  readonly engine: 'docker' | 'podman';
  /** The client's program, and what it needs in its environment. */
  readonly command: string;
  readonly env: Readonly<Record<string, string | undefined>>;
}

/** What the push knows of an image before it opens the store. */
export const factsOf = async ({ engine, command, env }: Client, image: string): Promise<EngineFacts> => {
  const ask = async (...args: string[]) => JSON.parse(await run(command, args, { env: { ...process.env, ...env } }));
  const [inspect] = await ask('image', 'inspect', image);
  const { Id: id, Descriptor: descriptor, RootFS: rootFs } = inspect;
  return {
    engine,
    imageId: (id.startsWith('sha256:') ? id : `sha256:${id}`) as Digest,
    diffIds: rootFs.Layers ?? [],
    ...(descriptor ? { root: descriptor.digest } : {}),
    info: () => ask('info', '--format', engine === 'docker' ? '{{json .}}' : 'json'),
    env: { ...process.env, ...env },
  };
};

export interface Opened {
  readonly source: StoreSource | undefined;
  readonly debug: readonly string[];
  readonly notices: readonly string[];
}

/** Opens a store, by sudo where the tests do not run as root, and keeps what was said. */
export const opened = async (facts: EngineFacts, wanted: 'auto' | 'store' = 'auto'): Promise<Opened> => {
  const debug: string[] = [];
  const notices: string[] = [];
  const source = await openEngineStore(facts, {
    export: wanted,
    signal: new AbortController().signal,
    debug: (line) => debug.push(line),
    notice: (line) => notices.push(line),
    // Where the tests run as an ordinary user it is as on GitHub's runners: sudo asks for no password.
    env: { ...process.env, RUNNER_ENVIRONMENT: 'github-hosted' },
  });
  return { source, debug, notices };
};

/** The layers that a store's tree names: diffIDs of a composed image, blobs of one with manifests. */
export const layersOf = ({ tree }: StoreSource): readonly Digest[] => {
  if (tree.kind === 'composed') return tree.diffIds;
  const documents = [...tree.documents.values()].map((bytes) => JSON.parse(bytes.toString()) as Partial<Manifest>);
  return documents.flatMap(({ layers }) => layers?.map(({ digest }) => digest) ?? []);
};

/** The digest and length in bytes of all that a stream gives. */
export const digestOfStream = async (stream: Readable): Promise<{ digest: Digest; size: number }> => {
  const hash = createHash('sha256');
  let size = 0;
  for await (const chunk of stream) {
    hash.update(chunk);
    size += chunk.length;
  }
  return { digest: `sha256:${hash.digest('hex')}`, size };
};

/** Reads every layer, all at once, and gives the digests that were asked for and those that came. */
export const readLayers = async (source: StoreSource): Promise<{ asked: Digest[]; came: Digest[] }> => {
  const asked = [...new Set(layersOf(source))];
  const came = await Promise.all(
    asked.map(async (digest) => {
      const blob = await source.open(digest);
      if (!blob) throw new Error(`${digest} is not in the store`);
      const read = await digestOfStream(blob.read());
      if (blob.size !== undefined && blob.size !== read.size) throw new Error(`${digest} is said to have ${blob.size}`);
      return read.digest;
    }),
  );
  return { asked, came };
};

/** Opens an image, reads all of it, closes it, and gives the digests asked for and those that came. */
export const readImage = async (client: Client, image: string): Promise<{ asked: Digest[]; came: Digest[] }> => {
  const { source, debug } = await opened(await factsOf(client, image));
  if (!source) throw new Error(`the store was not opened: ${debug.join('; ')}`);
  try {
    return await readLayers(source);
  } finally {
    await source.close();
  }
};
