import { ImageError } from '../../src/common/error.ts';
import { buildTree, type ManifestTree } from '../../src/oci/image-tree.ts';
import { type Descriptor, type Digest, digestOf, MediaType, type Platform } from '../../src/oci/types.ts';

export class Making {
  readonly documents = new Map<Digest, Buffer>();

  add(value: object, mediaType: string, more: object = {}): Descriptor {
    const bytes = Buffer.from(JSON.stringify(value, null, 2));
    this.documents.set(digestOf(bytes), bytes);
    return { mediaType, digest: digestOf(bytes), size: bytes.length, ...more };
  }

  image(platform: Platform, layers: Descriptor[], more: object = {}): Descriptor {
    const config = this.add({ ...platform, rootfs: { type: 'layers', diff_ids: [] } }, MediaType.ociConfig);
    return this.add(
      { schemaVersion: 2, mediaType: MediaType.ociManifest, config, layers, ...more },
      MediaType.ociManifest,
      { platform },
    );
  }

  attestation(of: Descriptor): Descriptor {
    const config = this.add({ of: of.digest }, MediaType.ociConfig);
    const annotations = {
      'vnd.docker.reference.digest': of.digest,
      'vnd.docker.reference.type': 'attestation-manifest',
    };
    const layers = [blob(`statement about ${of.digest}`, 'application/vnd.in-toto+json')];
    return this.add({ schemaVersion: 2, mediaType: MediaType.ociManifest, config, layers }, MediaType.ociManifest, {
      annotations,
      platform: { os: 'unknown', architecture: 'unknown' },
    });
  }

  index(manifests: Descriptor[], more: object = {}): Descriptor {
    return this.add({ schemaVersion: 2, mediaType: MediaType.ociIndex, manifests, ...more }, MediaType.ociIndex);
  }

  tree(root: Descriptor): ManifestTree {
    return buildTree(root, this.documents)!.tree;
  }
}

export const blob = (text: string, mediaType: string = MediaType.ociLayerGzip): Descriptor => ({
  mediaType,
  digest: digestOf(Buffer.from(text)),
  size: text.length,
});
export const plain = (text: string) => blob(text, MediaType.ociLayer);
export const amd64 = { os: 'linux', architecture: 'amd64' };
export const arm64 = { os: 'linux', architecture: 'arm64', variant: 'v8' };
export const armv7 = { os: 'linux', architecture: 'arm', variant: 'v7' };

/** Three platforms, two of them with attestations, the third in an index of its own. */
export function threePlatforms() {
  const making = new Making();
  const [one, two, three] = [
    making.image(amd64, [blob('a')]),
    making.image(arm64, [blob('b')]),
    making.image(armv7, [blob('a')]),
  ];
  const [about1, about2] = [making.attestation(one), making.attestation(two)];
  const nested = making.index([three]);
  const root = making.index([one, two, about1, about2, nested], { annotations: { keep: 'me' } });
  return { making, one, two, three, about1, about2, nested, root, tree: making.tree(root) };
}

export const digests = (list: readonly { descriptor: Descriptor }[]) => list.map(({ descriptor }) => descriptor.digest);

export function failure(work: () => unknown): ImageError {
  try {
    work();
  } catch (error) {
    if (error instanceof ImageError) return error;
    throw error;
  }
  throw new Error('it did not fail');
}
