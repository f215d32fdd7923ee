/** The troubles of TROUBLESHOOTING.md with merges, and with several images that go together. */
import { join } from 'node:path';
import { type Descriptor, digestOf, MediaType } from '../../src/oci/types.ts';
import { LayoutFolder } from '../support/layout.ts';
import type { Podman } from '../support/real/podman.ts';
import { refusal } from '../support/registry/answer.ts';
import type { Quirk } from '../support/registry/quirk.ts';
import { type Registry, startRegistry } from '../support/registry/server.ts';
import { type ActionRun, runAction } from '../support/runner.ts';

type Inputs = Readonly<Record<string, string>>;

interface Bench {
  readonly folder: string;
  readonly image: string;
  /** Has `team/app:1`. */
  readonly podman: Podman;
}

const firstError = ({ errors }: ActionRun): string => errors[0]?.split('\n')[0] ?? 'no error';
const failed = async (inputs: Inputs): Promise<string> => firstError(await runAction({ inputs }));

/** An image for linux/amd64 in a registry. */
const put = async (
  { url, addBlob }: Registry,
  tag: string,
  config: object = { os: 'linux', architecture: 'amd64' },
) => {
  const blob = Buffer.from(JSON.stringify({ ...config, rootfs: { type: 'layers', diff_ids: [] }, tag }));
  await addBlob('team/app', blob);
  const descriptor = { mediaType: MediaType.ociConfig, digest: digestOf(blob), size: blob.length };
  const manifest = { schemaVersion: 2, mediaType: MediaType.ociManifest, config: descriptor, layers: [] };
  const headers = { 'content-type': MediaType.ociManifest };
  const body = JSON.stringify(manifest);
  await fetch(`${url}/v2/team/app/manifests/${tag}`, { method: 'PUT', headers, body });
};

/** A merge of `part-*` in a registry that has these parts. */
const merged = async (
  parts: Readonly<Record<string, object | undefined>>,
  inputs: Inputs = {},
  quirks: readonly Quirk[] = [],
): Promise<ActionRun> => {
  const registry = await startRegistry({ quirks });
  for (const [tag, config] of Object.entries(parts)) await put(registry, tag, config);
  const app = `${registry.host}/team/app`;
  const run = await runAction({
    inputs: { merge: `${app}:${inputs.merge ?? 'part-*'}`, tags: `${app}:1`, ...withoutMerge(inputs) },
  });
  await registry.close();
  return run;
};

const withoutMerge = ({ merge: _, ...rest }: Inputs): Inputs => rest;

/** Two images of podman to one registry. */
const together = async (
  { podman }: Bench,
  name: string,
  quirk: (reference: string, method: string) => boolean,
): Promise<string> => {
  const refuses: Quirk = {
    name: 'refuses what a test names',
    before: ({ method, path }) =>
      path.includes('/manifests/') && quirk(path, method) ? refusal(403, 'DENIED', 'not for you') : undefined,
  };
  const registry = await startRegistry({ quirks: [refuses] });
  const images = ['a', 'b'].map((one) => `${registry.host}/${name}/${one}:1`);
  for (const image of images) await podman.run('tag', 'team/app:1', image);
  const inputs = { image: images.join('\n'), engine: 'podman', cache: 'false' };
  const line = firstError(await runAction({ inputs, env: podman.env }));
  await registry.close();
  return line;
};

const TAGS = 'registry.invalid/team/app:1';

/** By a name for the test; each resolves to the line of the log. */
export const MERGE_TROUBLES: Readonly<Record<string, (bench: Bench) => Promise<string>>> = {
  'a merge and an image': (bench) => failed({ merge: `${TAGS}-*`, image: bench.image, tags: TAGS }),
  'a merge of what is in another registry': () => failed({ merge: 'other.invalid/team/app:1-*', tags: TAGS }),
  'a merge for a registry without parts': () =>
    failed({ merge: `${TAGS}-*`, tags: `${TAGS}\nother.invalid/team/app:1` }),
  'a * in the middle of a tag': () => failed({ merge: 'registry.invalid/team/app:*-amd64', tags: TAGS }),
  'several images with tags': () => failed({ image: 'a.invalid/x:1\na.invalid/y:1', tags: TAGS }),
  'an annotation of a manifest for a merge': () =>
    failed({ merge: `${TAGS}-*`, tags: TAGS, annotations: 'manifest:org.opencontainers.image.title=app' }),
  'an annotation for an image with a manifest of its own': async ({ folder }) => {
    const registry = await startRegistry();
    const layout = new LayoutFolder(join(folder, 'annotated'));
    const image: Descriptor = await layout.image('amd64', { bytes: 1000 });
    layout.close(image);
    const tags = `${registry.host}/team/app:1`;
    const line = await failed({ image: `oci:${layout.path}`, tags, annotations: 'a=b' });
    await registry.close();
    return line;
  },
  'a * that no tag matches': async () => firstError(await merged({})),
  'a part that is not there': async () => firstError(await merged({}, { merge: 'part-7' })),
  'a platform that is missing': async () =>
    firstError(await merged({ 'part-1': undefined }, { merge: 'part-1', platforms: 'linux/amd64,linux/arm64' })),
  'a platform that comes twice': async () => firstError(await merged({ 'part-1': undefined, 'part-2': undefined })),
  'a part without a platform': async () => firstError(await merged({ 'part-1': {} })),
  'a registry that deletes no tags': async () => {
    const refuses: Quirk = {
      name: 'deletes nothing',
      before: ({ method }) => (method === 'DELETE' ? refusal(405, 'UNSUPPORTED', 'no deletes') : undefined),
    };
    const { notices } = await merged({ 'part-1': undefined }, { 'merge-cleanup': 'true' }, [refuses]);
    return notices.find((notice) => notice.startsWith('merge-cleanup')) ?? 'no notice';
  },
  'one of several images that is refused': (bench) =>
    together(bench, 'refused', (path, method) => method === 'PUT' && path.includes('/b/')),
  'a tag that can not be put back': (bench) =>
    together(
      bench,
      'stuck',
      (path, method) => method === 'DELETE' || (method === 'PUT' && path.endsWith('/b/manifests/1')),
    ),
};
