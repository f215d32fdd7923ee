/** The tools that push one image under faults: ours, and those that users would run instead. */
import { type Docker, partOfDocker } from '../../__tests__/support/real/docker.ts';
import { commandOf } from '../../__tests__/support/real/parts.ts';
import { runAction } from '../../__tests__/support/runner.ts';
import { crane, runTool, skopeo } from '../bench/tools.ts';

/** Pushes the image to a reference. */
export type Tool = (reference: string) => Promise<{ seconds: number; failed?: string | undefined }>;

/** Our action, from an archive. */
export const byAction =
  (archive: string, chunkSize: string): Tool =>
  async (reference) => {
    const inputs = { image: `docker-archive:${archive}`, tags: reference, 'chunk-size': chunkSize };
    const pushed = await runAction({ inputs, timeout: 1_800_000 });
    return {
      seconds: pushed.seconds,
      ...(pushed.exitCode === 0 ? {} : { failed: pushed.errors[0] ?? 'no error line' }),
    };
  };

/** The client that came with an engine, which has the image by NAME. */
export const byEngine = (engine: Docker): Tool => {
  const client = commandOf(partOfDocker(engine.version), 'docker');
  const commands = (to: string) => [
    [client, 'tag', NAME, to],
    [client, 'push', '--quiet', to],
  ];
  return (to) => runTool(commands(to), engine.env);
};

/** skopeo, from an archive. It tries nothing again by default. */
export const bySkopeo = (archive: string, retries: number): Tool => {
  const options = ['--insecure-policy', 'copy', `--retry-times=${retries}`, '--dest-tls-verify=false'];
  return (to) => runTool([[...skopeo(), ...options, `docker-archive:${archive}`, `docker://${to}`]], {});
};

/** The image's name in the engine and the archive. */
export const NAME = 'faults.example/app:1';

/** The tools by name, each with the image in the form that it takes. */
export function toolsFor(archive: string, engine: Docker, chunkSize: string): Record<string, Tool> {
  const craneCommand = crane();
  return {
    'chunked-push': byAction(archive, chunkSize),
    'docker push': byEngine(engine),
    'skopeo copy': bySkopeo(archive, 5),
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
