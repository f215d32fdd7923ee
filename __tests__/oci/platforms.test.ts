import { describe, expect, it } from 'vitest';
import { withoutManifests, withReferrers } from '../../src/oci/image-tree.ts';
import { selectPlatforms } from '../../src/oci/platforms.ts';
import { type Descriptor, digestOf, MediaType } from '../../src/oci/types.ts';
import { walk } from '../../src/oci/walk.ts';
import { amd64, arm64, blob, digests, failure, Making, threePlatforms } from './trees.ts';

describe('selectPlatforms', () => {
  it('gives the very tree when everything is there and nothing is asked for, or all of it', () => {
    const { tree } = threePlatforms();
    expect(selectPlatforms(tree, [])).toEqual({ tree, warnings: [] });
    expect(selectPlatforms(tree, ['linux/amd64', 'linux/arm64', 'linux/arm/v7']).tree).toBe(tree);
  });

  it('gives the manifest alone when one platform is asked for', () => {
    const { tree, one, two, three } = threePlatforms();
    expect(selectPlatforms(tree, ['linux/amd64']).tree.root.digest).toBe(one.digest);
    expect(selectPlatforms(tree, ['linux/aarch64']).tree.root.digest).toBe(two.digest);
    expect(selectPlatforms(tree, ['linux/arm']).tree.root.digest).toBe(three.digest);
    expect(selectPlatforms(tree, ['linux/amd64']).tree.root).not.toHaveProperty('platform');
  });

  it('makes a new index of some, with their attestations', () => {
    const { tree, one, two, three, about1, nested, about2 } = threePlatforms();
    const { tree: selected, warnings } = selectPlatforms(tree, ['linux/amd64', 'linux/arm/v7']);
    const walked = walk(selected);
    expect(digests(walked.documents).slice(0, -1)).toEqual([one, about1, three, nested].map(({ digest }) => digest));
    expect(digests(walked.documents)).not.toContain(two.digest);
    expect(digests(walked.documents)).not.toContain(about2.digest);
    expect(digestOf(walked.root.bytes)).toBe(selected.root.digest);
    expect(walked.root.bytes.length).toBe(selected.root.size);
    expect(JSON.parse(walked.root.bytes.toString()).annotations).toEqual({ keep: 'me' });
    expect(warnings).toEqual([]);
    expect(selectPlatforms(selected, ['linux/arm/v7', 'linux/amd64']).tree).toBe(selected);
  });

  it('leaves out what is absent: one left goes alone, several under a new index, none is an error', () => {
    const { tree, one, two, three, about1, about2, nested } = threePlatforms();
    const without = (...gone: Descriptor[]) => withoutManifests(tree, new Set(gone.map(({ digest }) => digest)));
    const alone = selectPlatforms(without(two, nested, about1, about2), []);
    expect(alone.tree.root.digest).toBe(one.digest);
    expect(alone.warnings).toEqual([expect.stringContaining('only linux/amd64 is pushed')]);
    const several = selectPlatforms(without(two, about2), []);
    expect(digests(walk(several.tree).manifests)).toEqual([one, about1, three].map(({ digest }) => digest));
    expect(several.warnings).toEqual([expect.stringContaining('linux/arm64/v8 is left out, and a new index')]);
    expect(() => selectPlatforms(without(one, two, three, about1, about2), [])).toThrow(
      /names linux\/amd64, linux\/arm64\/v8, linux\/arm\/v7, and none/,
    );
    // An attestation that was never pulled with its image: docker pushes the image alone then.
    expect(selectPlatforms(without(about1, two, about2, nested), []).tree.root.digest).toBe(one.digest);
  });

  it('names what is there when a platform is not', () => {
    const { tree, two } = threePlatforms();
    const error = failure(() => selectPlatforms(tree, ['linux/s390x']));
    expect(error).toMatchObject({ step: 'Platform', message: 'the image has no linux/s390x' });
    expect(error.remedy).toBe('choose platforms among linux/amd64, linux/arm64/v8, linux/arm/v7');
    const gone = withoutManifests(tree, new Set([two.digest]));
    expect(failure(() => selectPlatforms({ ...gone, isVerbatim: true }, ['linux/arm64'])).remedy).toContain(
      'the registry that it is read from lacks it',
    );
    expect(failure(() => selectPlatforms(gone, ['linux/arm64'])).message).toBe(
      'the image names linux/arm64, but its content is not here',
    );
    expect(failure(() => selectPlatforms(tree, ['linux'])).remedy).toBe('write it as linux/amd64 or linux/arm/v7');
  });

  it('compares a single manifest with the platform of its config', () => {
    const making = new Making();
    const tree = making.tree(making.image(arm64, [blob('a')]));
    expect(selectPlatforms(tree, ['linux/arm64']).tree).toBe(tree);
    expect(failure(() => selectPlatforms(tree, ['linux/amd64'])).message).toBe('the image has no linux/amd64');
  });

  it('compares an image without a manifest with the platform of its config', () => {
    const config = Buffer.from(JSON.stringify({ ...amd64, rootfs: { type: 'layers', diff_ids: [] } }));
    const tree = { kind: 'composed', config, diffIds: [] } as const;
    expect(selectPlatforms(tree, ['linux/amd64'])).toEqual({ tree, warnings: [] });
    const error = failure(() => selectPlatforms(tree, ['linux/amd64', 'linux/arm64']));
    expect(error).toMatchObject({
      message: 'the image has no linux/arm64',
      remedy: 'choose platforms among linux/amd64',
    });
  });

  it('does not warn of what nobody asked for', () => {
    const { tree, three, nested } = threePlatforms();
    const some = withoutManifests(tree, new Set([three.digest, nested.digest]));
    const { tree: selected, warnings } = selectPlatforms(some, ['linux/amd64', 'linux/arm64']);
    expect(warnings).toEqual([]);
    expect(walk(selected).manifests).toHaveLength(4);
  });

  it('keeps the referrers of what is left', () => {
    const { making, tree, one, two } = threePlatforms();
    const sign = (subject: Descriptor) =>
      making.add(
        { schemaVersion: 2, config: blob('{}', 'application/x'), layers: [blob(`signs ${subject.digest}`)], subject },
        MediaType.ociManifest,
      );
    const [about1, about2] = [sign(one), sign(two)];
    const aboutThat = sign(about1);
    const signed = withReferrers(tree, [aboutThat, about2, about1]);
    expect(signed.referrers).toHaveLength(3);
    expect(digests(walk(signed).documents).indexOf(tree.root.digest)).toBeLessThan(
      digests(walk(signed).documents).indexOf(about1.digest),
    );
    expect(selectPlatforms(signed, ['linux/amd64']).tree.referrers).toEqual([about1, aboutThat]);
    expect(withReferrers(making.tree(two), [about1])).not.toHaveProperty('referrers');
  });
});
