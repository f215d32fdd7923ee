/** The archives that real engines wrote (`__tests__/fixtures`), what they hold, and ways to read them. */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import type { Readable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { pack } from 'tar-stream';
import type { BlobFormat } from '../../src/blob/blob.ts';
import type { Digest } from '../../src/oci/types.ts';
import type { ByteInput } from '../../src/source/archive/entry.ts';
import { ArchiveStream, type Exporter } from '../../src/source/archive/stream.ts';
import type { AskedImage } from '../../src/source/archive/stream-documents.ts';
import type { StreamSource } from '../../src/source/source.ts';

const FOLDER = new URL('../fixtures/', import.meta.url);

export const fixturePath = (name: string): string => fileURLToPath(new URL(name, FOLDER));
export const fixture = (name: string): Buffer => readFileSync(fixturePath(name));

/** The one object of a fixture's `image inspect`. */
export const inspectOf = (name: string): { Id: string; RootFS: { Layers: Digest[] } } =>
  JSON.parse(fixture(`${name}.inspect.json`).toString())[0];

const d = (hex: string): Digest => `sha256:${hex}`;

/** Config and diffIDs of the image in every archive by Docker 20 and Podman. */
export const DOCKER20 = {
  config: d('9926ad1b0835e563cd3e98057c1f068bc6a4a76ce9811b3179708b75feca74cf'),
  diffIds: inspectOf('docker20-overlay2').RootFS.Layers,
};
/** The same of Docker 28 with overlay2. */
export const DOCKER28 = {
  config: d('c7d6ca090f90c56883446ec1dd008b11f038c76a34d8e5fd9553496e8fff3e49'),
  other: d('fb7f888f05aad9b46f2a7438abbd72ab30da5c50232c9cac58c070fc7b0c4d29'),
  diffIds: inspectOf('docker28-overlay2').RootFS.Layers,
};
/** What `docker push` sent for the images of the containerd store. */
export const CONTAINERD = {
  one: d('e2d655a2143a3f21f946e565b0e01b8b946c869e07e77403a2509160a331522a'),
  multi: d('da70e0a0c0a22c76f1791c19d43d9b7dbf0ca675cee9e035634c02800fb51960'),
  amd64: d('554c4e27904b1f8b37f5c882831834b39f4da899fde5302f1132494466a7c771'),
  arm64: d('eac08a5370529b80fd2119d2cd07689fb75c830d63251c0347299f487c3f8d44'),
  configAmd64: d('d95ae45936a1b3f010677fc8b4092a94b47e65eec257a2ba3416d904209532ae'),
  configArm64: d('81f72960f55515e5a2ba3de7f079e541be82beee84a0f412867f671f50bbafcc'),
  diffIds: inspectOf('docker28-containerd-absent-platform').RootFS.Layers,
  layers: [
    d('f8a5b62c97adc51ae950dcc77034f36a64ed4a1dbf66fa9c12488e5e303cb4f7'),
    d('8ade215a2e6f8d840666de77bfabae90b905b250b3f5224fb8b480334b713c17'),
    d('6adc3be8e569fc95ee48f65863c2c81dc406d46d3b2520b7c08fbc78ac0d0242'),
    d('9addb4c7f3afa99b03f24f9e05cb87d274a63ae9ba30c94f02c75e85d133e9de'),
  ],
};
export const PODMAN_OCI = {
  manifest: d('d42899da929482754d037870727765ab7e109ec81378022bc39bd0cfc875f1a8'),
  config: d('6b9fb1ec746ffe424334576c7045afd522e6dd03071ae56d49aec02c9cf58f7b'),
};

/** An archive in memory as an engine would stream it, cut in pieces of `step` bytes. */
export function streamOf(
  bytes: Buffer,
  asked: AskedImage,
  step = 1000,
  signal = new AbortController().signal,
): StreamSource {
  const input = new MemoryInput(bytes, step);
  const exporter: Exporter = { input, finished: Promise.resolve(), stop: async () => input.close() };
  return new ArchiveStream('docker save', exporter, asked, signal);
}

class MemoryInput implements ByteInput {
  readonly #step: number;
  #bytes: Buffer;
  #closed = false;

  constructor(bytes: Buffer, step: number) {
    this.#bytes = bytes;
    this.#step = step;
  }

  get over(): boolean {
    return this.#closed || this.#bytes.length === 0;
  }

  async fill(into: Uint8Array): Promise<number> {
    let filled = 0;
    while (filled < into.length && this.#bytes.length > 0) {
      await null;
      if (this.#closed) throw new Error('it was closed before its end');
      const part = this.#bytes.subarray(0, Math.min(this.#step, into.length - filled));
      into.set(part, filled);
      filled += part.length;
      this.#bytes = this.#bytes.subarray(part.length);
    }
    return filled;
  }

  close(): void {
    this.#closed = true;
  }
}

/** A blob that a stream gave, read to its end. */
export interface ReadBlob {
  readonly name: string;
  readonly digest: Digest | undefined;
  readonly form: BlobFormat;
  /** The digest of its bytes. */
  readonly hash: Digest;
  readonly size: number;
}

/** Reads every blob of a stream whole. */
export async function readAll(source: StreamSource): Promise<ReadBlob[]> {
  const blobs: ReadBlob[] = [];
  for await (const { name, digest, format: form, size, body } of source.blobs()) {
    const { hash, size: read } = await hashOf(body);
    if (read !== size) throw new Error(`${name}: ${read} bytes of ${size}`);
    blobs.push({ name, digest, form, hash, size });
  }
  return blobs;
}

/** Digest and length of a stream's bytes. */
export async function hashOf(stream: Readable): Promise<{ hash: Digest; size: number }> {
  const sha = createHash('sha256');
  let size = 0;
  for await (const chunk of stream) {
    sha.update(chunk as Buffer);
    size += (chunk as Buffer).length;
  }
  return { hash: `sha256:${sha.digest('hex')}`, size };
}

/** A file, link or folder of a tar that a test makes. */
export type TarEntry =
  | { readonly name: string; readonly body: string | Buffer }
  | { readonly name: string; readonly type: 'symlink' | 'link'; readonly linkname: string }
  | { readonly name: string; readonly type: 'directory' };

/** A tar of these entries, in memory. */
export async function tarOf(entries: readonly TarEntry[]): Promise<Buffer> {
  const tar = pack();
  for (const entry of entries) {
    const mtime = new Date(0);
    if ('body' in entry) tar.entry({ name: entry.name, mtime }, Buffer.from(entry.body));
    else tar.entry({ ...entry, mtime });
  }
  tar.finalize();
  const chunks: Buffer[] = [];
  for await (const chunk of tar) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}
