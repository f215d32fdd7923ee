/** The tools that push one image under faults: ours, and those that users would run instead. */
import type { Docker } from '../../__tests__/support/real/docker.ts';
import { commandOf } from '../../__tests__/support/real/parts.ts';
import { runAction } from '../../__tests__/support/runner.ts';
import { crane, runTool, skopeo } from '../bench/tools.ts';

/** Pushes the image to a reference. */
export type Tool = (reference: string) => Promise<{ seconds: number; failed?: string | undefined }>;

const byAction =
  (image: string, chunkSize: string): Tool =>
  async (reference) => {
    const pushed = await runAction({ inputs: { image, tags: reference, 'chunk-size': chunkSize }, timeout: 1_800_000 });
    return {
      seconds: pushed.seconds,
      ...(pushed.exitCode === 0 ? {} : { failed: pushed.errors[0] ?? 'no error line' }),
    };
  };

/** The image's name in the engine and the archive. */
export const NAME = 'faults.example/app:1';

/** The tools by name, each with the image in the form that it takes. `retries`: skopeo's, which has none by default. */
export function toolsFor(archive: string, engine: Docker, chunkSize: string, retries = 5): Record<string, Tool> {
  const docker = commandOf('docker', 'docker');
  const craneCommand = crane();
  const image = `docker-archive:${archive}`;
  return {
    'chunked-push': byAction(image, chunkSize),
    'docker push': (to) =>
      runTool(
        [
          [docker, 'tag', NAME, to],
          [docker, 'push', '--quiet', to],
        ],
        engine.env,
      ),
    'skopeo copy': (to) =>
      runTool(
        [
          [
            ...skopeo(),
            '--insecure-policy',
            'copy',
            `--retry-times=${retries}`,
            '--dest-tls-verify=false',
            image,
            `docker://${to}`,
          ],
        ],
        {},
      ),
    ...(craneCommand && {
      'crane push': (to: string) => runTool([[...craneCommand, 'push', '--insecure', archive, to]], {}),
    }),
  };
}

const MANIFESTS = 'application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json';

/** Bytes of what the tag `1` consists of, the config among them or not; undefined when it is not there. */
export async function bytesOfImage(
  url: string,
  repository: string,
): Promise<{ readonly all: number; readonly withoutConfig: number } | undefined> {
  const answer = await fetch(`${url}/v2/${repository}/manifests/1`, { headers: { accept: MANIFESTS } });
  if (!answer.ok) return undefined;
  const text = await answer.text();
  const { config, layers } = JSON.parse(text) as { config: { size: number }; layers: { size: number }[] };
  const withoutConfig = text.length + layers.reduce((sum, { size }) => sum + size, 0);
  return { all: withoutConfig + config.size, withoutConfig };
}
