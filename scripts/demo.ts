/** `npm run demo`: the whole action on a real image, with nothing installed but Node and npm. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buildImage, type ImageRecipe, writeDockerArchive } from '../__tests__/support/images.ts';
import { run } from '../__tests__/support/real/processes.ts';
import { startRegistry } from '../__tests__/support/registry/server.ts';
import { runAction } from '../__tests__/support/runner.ts';
import type { Digest } from '../src/oci/types.ts';
import { pullBack } from './demo/pull-back.ts';
import { heading, liveLog, megabytes } from './demo/show.ts';

const MIB = 1024 * 1024;
const LIMIT = 5 * MIB;
const REPOSITORY = 'demo/app';

/** About 46 MB in five layers; new bytes in every run, so that nothing is there already. */
const recipe: ImageRecipe = {
  seed: String(Date.now()),
  layers: [
    { bytes: 8_000_000, files: 200 },
    { bytes: 26_000_000, files: 5 },
    'empty',
    { bytes: 11_000_000, content: 'random', files: 2 },
    { bytes: 800_000, content: 'text', files: 30 },
  ],
};

interface DemoImage {
  /** What the action is told about it. */
  readonly inputs: Readonly<Record<string, string>>;
  remove(): Promise<void>;
}

/** GitHub's Windows machines have a Docker for Windows containers, which builds no Linux image. */
const engineAnswers = async (): Promise<boolean> =>
  process.platform === 'linux' &&
  run('docker', ['info'], { timeout: 10_000 }).then(
    () => true,
    () => false,
  );

const makeImage = async (reference: string, folder: string): Promise<DemoImage> => {
  if (await engineAnswers()) {
    console.log('A Docker engine answers here: it builds the image, and "docker save" gives it to the push.');
    await buildImage({ command: 'docker', env: {} }, reference, recipe);
    return {
      inputs: { image: reference, export: 'save' },
      remove: () => run('docker', ['image', 'rm', '--force', reference]).then(() => undefined),
    };
  }
  console.log(
    'No Docker engine answers here: the image is written as a docker-archive file, as "docker save" would write it.',
  );
  const file = join(folder, 'image.tar');
  await writeDockerArchive(file, reference, recipe);
  return { inputs: { image: `docker-archive:${file}` }, remove: async () => {} };
};

const pushed = async (image: DemoImage, reference: string): Promise<Digest> => {
  heading('The push, as the log of a GitHub job shows it');
  const result = await runAction({
    inputs: { ...image.inputs, tags: reference },
    env: { DOCKER_HOST: process.env.DOCKER_HOST, DOCKER_CONFIG: process.env.DOCKER_CONFIG },
    onOutput: liveLog(),
  });
  if (result.exitCode !== 0) throw new Error(`the action ended with ${result.signal ?? result.exitCode}`);
  heading('The job summary (Markdown)');
  console.log(result.summary);
  heading('The outputs');
  for (const name of ['digest', 'imageid', 'image']) console.log(`${name}: ${result.outputs[name]}`);
  return result.outputs.digest as Digest;
};

const folder = mkdtempSync(join(tmpdir(), 'chunked-push-demo-'));
const registry = await startRegistry({ profile: 'limited', limit: LIMIT });
const reference = `${registry.host}/${REPOSITORY}:latest`;
let image: DemoImage | undefined;
try {
  heading('The image');
  image = await makeImage(reference, folder);
  console.log(
    `A registry listens on ${registry.host}. Like many proxies, it refuses every request over ${LIMIT / MIB} MiB.`,
  );
  const digest = await pushed(image, reference);
  heading('Pulled back by plain GET requests');
  const layers = await pullBack(registry.url, REPOSITORY, digest);
  for (const { digest, size } of layers)
    console.log(`ok  ${digest}  ${megabytes(size).padStart(8)}  blob and diffID are right`);
  const largest = Math.max(...registry.requests.filter(({ status }) => status < 400).map(({ bytes }) => bytes));
  console.log(`\nThe image is in the registry, whole: ${layers.length} layers, ${digest}.`);
  console.log(`The largest request that carried it: ${megabytes(largest)}, of ${megabytes(LIMIT)} allowed.`);
} catch (error) {
  console.error(`\nThe demo failed: ${error instanceof Error ? error.message : error}`);
  process.exitCode = 1;
} finally {
  await image?.remove();
  await registry.close();
  rmSync(folder, { recursive: true, force: true });
}
