import { describe, expect, it } from 'vitest';
import { isImageEntry, mergeEntries } from '../../src/oci/merge.ts';
import { type Descriptor, digestOf, MediaType, type Platform } from '../../src/oci/types.ts';

const entry = (name: string, platform?: Platform, more: Partial<Descriptor> = {}): Descriptor => {
  const bytes = Buffer.from(name);
  const descriptor = { mediaType: MediaType.ociManifest, digest: digestOf(bytes), size: bytes.length };
  return { ...descriptor, ...(platform ? { platform } : {}), ...more };
};
const part = (text: string, ...entries: Descriptor[]) => ({ text, root: digestOf(Buffer.from(text)), entries });

const AMD = { os: 'linux', architecture: 'amd64' };
const about = (image: Descriptor) => ({ annotations: { 'vnd.docker.reference.digest': image.digest } });

describe('mergeEntries', () => {
  it('keeps two compressions of one platform in their order, whichever part comes first', () => {
    // buildah manifest push --add-compression zstd
    const both = [
      entry('gzip', AMD),
      entry('zstd', AMD, { annotations: { 'io.github.containers.compression.zstd': 'true' } }),
    ];
    for (const name of ['a', 'b', 'c', 'd']) {
      const arm = part(name, entry('arm', { os: 'linux', architecture: 'arm64', variant: 'v8' }));
      expect(mergeEntries([arm, part('both', ...both)]).slice(0, 2)).toEqual(both);
      expect(mergeEntries([part('both', ...both), arm])).toHaveLength(3);
    }
  });

  it('names the platform and both parts where their images differ', () => {
    const parts = [
      part('x:1', entry('one', AMD)),
      part('x:2', entry('two', { ...AMD, architecture: 'x86_64', variant: 'v1' })),
    ];
    expect(() => mergeEntries(parts)).toThrow(
      / comes twice: sha256:\S+ \(x:[12]\) and sha256:\S+ \(x:[12]\); no tag has moved/,
    );
    const same = [part('x:1', entry('one', AMD)), part('x:2', entry('one', AMD))];
    expect(mergeEntries(same)).toEqual([entry('one', AMD)]);
  });

  it('takes versions of Windows for platforms of their own', () => {
    const windows = (version: string) =>
      entry(version, { os: 'windows', architecture: 'amd64', 'os.version': version });
    expect(mergeEntries([part('b', windows('10.0.2')), part('a', windows('10.0.1'))]).map(isImageEntry)).toEqual([
      true,
      true,
    ]);
  });

  it('puts attestations after all images, in the order of those', () => {
    const images = ['arm64', 'amd64'].map((architecture) => entry(architecture, { os: 'linux', architecture }));
    const unknown = { os: 'unknown', architecture: 'unknown' };
    const said = images.map((image) => entry(`about ${image.digest}`, unknown, about(image)));
    const sbom = entry('an artifact without platform');
    const merged = mergeEntries([part('arm', sbom, images[0]!, said[0]!), part('amd', said[1]!, images[1]!)]);
    expect(merged).toEqual([images[1], images[0], said[1], said[0], sbom]);
  });
});
