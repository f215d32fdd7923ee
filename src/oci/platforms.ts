import { ImageError } from '../common/error.ts';
import { readConfig, serialise } from './documents.ts';
import { type ImageTree, type ManifestTree, withReferrers } from './image-tree.ts';
import { type Descriptor, type Digest, digestOf, type Index, isIndexType, type Platform } from './types.ts';
import { configPlatform, type TreeManifest, type TreeWalk, walk } from './walk.ts';

interface Selection<Tree extends ImageTree = ManifestTree> {
  readonly tree: Tree;
  /** What was left out and what is pushed instead, a line each; empty when the tree is pushed as it is. */
  readonly warnings: readonly string[];
}

/**
 * Picks platforms (`os/architecture[/variant]`; none for all that are present) of a tree. The tree comes back byte for
 * byte when nothing has to be left out. Throws ImageError (step Platform) when one asked for is not there, or none is.
 */
export function selectPlatforms<Tree extends ImageTree>(tree: Tree, platforms: readonly string[]): Selection<Tree>;
export function selectPlatforms(tree: ImageTree, platforms: readonly string[]): Selection<ImageTree> {
  const wanted = [...new Set(platforms)].map((text) => ({ text, platform: parsePlatform(text) }));
  if (tree.kind === 'manifests') return selectManifests(tree, wanted);
  const platform = configPlatform(readConfig(tree.config, "the image's config"));
  for (const one of wanted) requirePlatform(one.text, one.platform, [{ platform }], { absent: [] });
  return { tree, warnings: [] };
}

interface Wanted {
  readonly text: string;
  readonly platform: Platform;
}

function selectManifests(tree: ManifestTree, wanted: readonly Wanted[]): Selection {
  const walked = walk(tree);
  const images = walked.manifests.filter((manifest) => manifest.attests === undefined && !isReferrer(manifest, tree));
  for (const { text, platform } of wanted) requirePlatform(text, platform, images, tree);
  const chosen = images.filter(
    ({ platform }) => wanted.length === 0 || wanted.some((one) => platform && samePlatform(one.platform, platform)),
  );
  if (!isIndexType(walked.root.descriptor.mediaType)) return { tree, warnings: [] };
  if (chosen.length === images.length && tree.absent.length === 0) return { tree, warnings: [] };
  if (chosen.length === 0) throw nothingPresent(tree);
  return chosen.length === 1
    ? single(tree, chosen[0]!, wanted.length > 0)
    : several(tree, walked, chosen, wanted.length > 0);
}

/** `os/architecture[/variant]` in words, `unknown` where an index says nothing. */
export function formatPlatform(platform: Platform | undefined): string {
  if (!platform) return 'unknown';
  return [platform.os, platform.architecture, platform.variant].filter((part) => part).join('/');
}

/** Reads a platform as the `platforms` input has it. Throws ImageError. */
export function parsePlatform(text: string): Platform {
  const [os, architecture, variant, ...rest] = text.trim().split('/');
  if (
    !os ||
    !architecture ||
    rest.length > 0 ||
    ![os, architecture, variant ?? 'x'].every((part) => /^[\w.-]+$/.test(part))
  ) {
    throw new ImageError('Platform', `${JSON.stringify(text)} is not a platform`, {
      remedy: 'write it as linux/amd64 or linux/arm/v7',
    });
  }
  return { os, architecture, ...(variant === undefined ? {} : { variant }) };
}

/** Other names of architectures, and the variants that go without saying. containerd/platforms, database.go. */
const ARCHITECTURES: Readonly<Record<string, readonly [string, string?]>> = {
  x86_64: ['amd64'],
  'x86-64': ['amd64'],
  i386: ['386'],
  aarch64: ['arm64'],
  armhf: ['arm', 'v7'],
  armel: ['arm', 'v6'],
};
const SILENT_VARIANTS: Readonly<Record<string, string>> = { arm64: 'v8', arm: 'v7', amd64: 'v1' };

/**
 * One text for all ways to write a platform: `linux/arm64` and `linux/aarch64/v8` have the same. The version of the
 * system is not in it.
 */
export function platformKey(platform: Platform): string {
  const given = String(platform.architecture).toLowerCase();
  const [architecture, implied] = Object.hasOwn(ARCHITECTURES, given) ? ARCHITECTURES[given]! : [given];
  const variant = (platform.variant || implied || SILENT_VARIANTS[architecture] || '')
    .toLowerCase()
    .replace(/^(\d)/, 'v$1');
  return `${String(platform.os).toLowerCase()}/${architecture}/${variant}`;
}

const samePlatform = (one: Platform, other: Platform): boolean => platformKey(one) === platformKey(other);

const isReferrer = (manifest: TreeManifest, tree: ManifestTree): boolean =>
  tree.referrers?.some(({ digest }) => digest === manifest.descriptor.digest) === true;

function requirePlatform(
  text: string,
  wanted: Platform,
  images: readonly { readonly platform: Platform | undefined }[],
  { absent, isVerbatim = false }: Pick<ManifestTree, 'absent' | 'isVerbatim'>,
): void {
  const fits = ({ platform }: { platform?: Platform | undefined }) =>
    platform !== undefined && samePlatform(wanted, platform);
  if (images.some(fits)) return;
  if (absent.some(fits)) {
    throw new ImageError('Platform', `the image names ${text}, but its content is not here`, {
      remedy: isVerbatim
        ? `the registry that it is read from lacks it: push it there again, or leave ${text} out of platforms`
        : `pull it first (docker pull --platform ${text} …), or leave it out of platforms`,
    });
  }
  // A single manifest whose config was not read yet can't contradict.
  if (images.length === 1 && images[0]!.platform === undefined) return;
  const present = images.map(({ platform }) => formatPlatform(platform)).join(', ') || 'none';
  throw new ImageError('Platform', `the image has no ${text}`, { remedy: `choose platforms among ${present}` });
}

function nothingPresent(tree: ManifestTree): ImageError {
  const named = tree.absent
    .filter(({ platform }) => platform?.os !== 'unknown')
    .map(({ platform }) => formatPlatform(platform));
  return new ImageError(
    'Platform',
    `the index ${tree.root.digest} names ${named.join(', ') || 'no image'}, and none of them is here`,
    {
      remedy: 'pull or build the image for the platforms to push',
    },
  );
}

function single(tree: ManifestTree, image: TreeManifest, asked: boolean): Selection {
  const { mediaType, digest, size } = image.descriptor;
  const root: Descriptor = { mediaType, digest, size };
  const selected = again(tree, root, tree.documents);
  if (asked) return { tree: selected, warnings: [] };
  const platform = formatPlatform(image.platform);
  const warning = `not all of the multi-platform content is present: only ${platform} is pushed, as ${digest} instead of the index ${tree.root.digest}`;
  return { tree: selected, warnings: [warning] };
}

function several(tree: ManifestTree, walked: TreeWalk, chosen: readonly TreeManifest[], asked: boolean): Selection {
  const images = new Set(chosen.map(({ descriptor }) => descriptor.digest));
  const attestations = walked.manifests.filter(({ attests }) => attests !== undefined && images.has(attests));
  const keep = new Set([...images, ...attestations.map(({ descriptor }) => descriptor.digest)]);
  const documents = new Map(tree.documents);
  const root = filterIndex(walked, walked.root.descriptor, keep, documents);
  if (!root) throw nothingPresent(tree);
  const absent = tree.absent.filter(({ platform }) => platform !== undefined && platform.os !== 'unknown');
  const left = absent.map(({ platform }) => formatPlatform(platform)).join(', ');
  const warning = `not all of the multi-platform content is present: ${left || 'some content'} is left out, and a new index ${root.digest} is pushed instead of ${tree.root.digest}`;
  return { tree: again(tree, root, documents), warnings: asked ? [] : [warning] };
}

/** The index with only the manifests to keep, and the indexes in it likewise; undefined when nothing is left in it. */
export function filterIndex(
  walked: TreeWalk,
  descriptor: Descriptor,
  keep: ReadonlySet<Digest>,
  documents: Map<Digest, Buffer>,
): Descriptor | undefined {
  const found = walked.indexes.find((one) => one.descriptor.digest === descriptor.digest);
  if (!found) return keep.has(descriptor.digest) ? descriptor : undefined;
  const before = found.index.manifests;
  const manifests = before
    .map((child) => filterIndex(walked, child, keep, documents))
    .filter((child) => child !== undefined);
  if (manifests.length === 0) return undefined;
  if (manifests.length === before.length && manifests.every((child, position) => child === before[position]))
    return descriptor;
  const index: Index = { ...found.index, manifests };
  const bytes = serialise(index, `the index ${descriptor.digest}`);
  const digest = digestOf(bytes);
  documents.set(digest, bytes);
  return { ...descriptor, digest, size: bytes.length };
}

function again(tree: ManifestTree, root: Descriptor, documents: ReadonlyMap<Digest, Buffer>): ManifestTree {
  const { referrers = [], ...rest } = tree;
  return withReferrers({ ...rest, root, documents, absent: [] }, referrers);
}
