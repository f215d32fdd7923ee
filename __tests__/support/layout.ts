/** Writes OCI image layouts piece by piece: images, indexes, artifacts. image-spec image-layout.md. */
import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { pack } from 'tar-stream';
import { type Descriptor, type Digest, digestOf, MediaType } from '../../src/oci/types.ts';
import { contentOf } from './content.ts';

type Extra = Partial<Pick<Descriptor, 'annotations' | 'platform'>> & { readonly urls?: readonly string[] };

export class LayoutFolder {
  readonly path: string;

  /** Makes the folder. */
  constructor(path: string) {
    this.path = path;
    mkdirSync(join(path, 'blobs/sha256'), { recursive: true });
    writeFileSync(join(path, 'oci-layout'), '{"imageLayoutVersion":"1.0.0"}');
  }

  blob(bytes: Buffer, mediaType: string, extra: Extra = {}): Descriptor {
    const digest = digestOf(bytes);
    writeFileSync(join(this.path, 'blobs/sha256', digest.slice('sha256:'.length)), bytes);
    return { mediaType, digest, size: bytes.length, ...extra };
  }

  remove(): void {
    rmSync(this.path, { recursive: true });
  }

  read(digest: Digest): Buffer {
    return readFileSync(join(this.path, 'blobs/sha256', digest.slice('sha256:'.length)));
  }

  /** A document whose own media type is in it too. */
  document(mediaType: string, content: object, extra: Extra = {}): Descriptor {
    return this.blob(Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType, ...content })), mediaType, extra);
  }

  /** An image of one gzip layer for a platform; `foreign` layers beneath it are named and not there. */
  async image(
    architecture: string,
    options: { bytes?: number; foreign?: readonly Descriptor[] } = {},
  ): Promise<Descriptor> {
    const { bytes = 200_000, foreign = [] } = options;
    const tar = await tarOf(`${architecture}/data`, bytes);
    const layer = this.blob(gzipSync(tar, { level: 1 }), MediaType.ociLayerGzip);
    const diffIds = [...foreign.map(({ digest }) => digest), digestOf(tar)];
    const config = this.blob(
      Buffer.from(JSON.stringify({ architecture, os: 'linux', rootfs: { type: 'layers', diff_ids: diffIds } })),
      MediaType.ociConfig,
    );
    return this.document(
      MediaType.ociManifest,
      { config, layers: [...foreign, layer] },
      { platform: { os: 'linux', architecture } },
    );
  }

  /** What BuildKit puts beside an image: https://docs.docker.com/build/metadata/attestations/attestation-storage/ */
  attestation(subject: Descriptor): Descriptor {
    const statement = this.blob(
      Buffer.from(`{"_type":"statement of ${subject.digest}"}`),
      'application/vnd.in-toto+json',
      {
        annotations: { 'in-toto.io/predicate-type': 'https://slsa.dev/provenance/v0.2' },
      },
    );
    const config = this.blob(
      Buffer.from(
        JSON.stringify({
          architecture: 'unknown',
          os: 'unknown',
          rootfs: { type: 'layers', diff_ids: [statement.digest] },
        }),
      ),
      MediaType.ociConfig,
    );
    return this.document(
      MediaType.ociManifest,
      { config, layers: [statement] },
      {
        platform: { os: 'unknown', architecture: 'unknown' },
        annotations: {
          'vnd.docker.reference.digest': subject.digest,
          'vnd.docker.reference.type': 'attestation-manifest',
        },
      },
    );
  }

  /** Writes `index.json`; names are given by `org.opencontainers.image.ref.name`. */
  close(...images: readonly (Descriptor | readonly [name: string, Descriptor])[]): void {
    const manifests = images.map((image) => {
      if (!Array.isArray(image)) return image;
      const [name, descriptor] = image as [string, Descriptor];
      return { ...descriptor, annotations: { ...descriptor.annotations, 'org.opencontainers.image.ref.name': name } };
    });
    writeFileSync(join(this.path, 'index.json'), JSON.stringify({ schemaVersion: 2, manifests }));
  }
}

/** A tar with one file of seeded bytes. */
export const tarOf = async (name: string, bytes: number): Promise<Buffer> => {
  const tar = pack();
  const blocks: Buffer[] = [];
  for await (const block of contentOf('random', name, bytes)) blocks.push(block);
  tar.entry({ name, mtime: new Date(0) }, Buffer.concat(blocks));
  tar.finalize();
  const chunks: Buffer[] = [];
  for await (const chunk of tar as AsyncIterable<Buffer>) chunks.push(chunk);
  return Buffer.concat(chunks);
};

/** A digest of something that is nowhere. */
export const absentDigest = (name: string): Digest => `sha256:${createHash('sha256').update(name).digest('hex')}`;
