/**
 * The push that people come for, of any size: an image with one giant layer, from a real engine through nginx with a limit of
 * 10 MB into docker-registry, and once more straight from the containerd image store. Run by the tests small, by
 * `node scripts/run.mjs big-push` large.
 */
import { buildImage, giantLayerRecipe } from './images.ts';
import { type DockerAddress, docker, dockerPull, imageIdOf, partOfDocker } from './real/docker.ts';
import { type Nginx, startNginx } from './real/nginx.ts';
import { commandOf } from './real/parts.ts';
import { type DockerRegistry, startDockerRegistry } from './real/registry.ts';
import { type ActionRun, runAction } from './runner.ts';

export interface BigPushOptions {
  /** Uncompressed bytes of the image; 58 % of them in one layer. */
  readonly bytes: number;
  /** An engine with a classic store, and one with the containerd image store. */
  readonly classic: DockerAddress;
  readonly containerd: DockerAddress;
  readonly log: (line: string) => void;
}

export interface BigPush {
  /** The push from the classic store and the one from the containerd image store. */
  readonly classic: Measured;
  readonly containerd: Measured;
  /** The image's ID in the engine that built it, and in the same engine after a pull of what was pushed. */
  readonly builtId: string;
  readonly pulledId: string;
  /** What `docker push` gave for the image in the containerd image store. */
  readonly dockerDigest: string;
  /** The largest body that got through nginx, bytes. */
  readonly largestBody: number;
}

export interface Measured {
  readonly run: ActionRun;
  /** `Docker-Content-Digest` of the tag, asked of the registry itself. */
  readonly served: string | null;
}

const REPOSITORY = 'team/big';
const LIMIT = '10m';
const HOUR = 3_600_000;

/** Does it all. Throws an Error when an engine or a server fails; what the pushes did is in the result. */
export const bigPush = async (options: BigPushOptions): Promise<BigPush> => {
  const registry = await startDockerRegistry();
  const nginx = await startNginx({ upstream: registry.host, clientMaxBodySize: LIMIT });
  try {
    return await pushBoth(options, registry, nginx);
  } finally {
    await nginx.stop();
    await registry.stop();
  }
};

const pushBoth = async (
  { bytes, classic, containerd, log }: BigPushOptions,
  registry: DockerRegistry,
  nginx: Nginx,
): Promise<BigPush> => {
  const through = (tag: string) => `${nginx.host}/${REPOSITORY}:${tag}`;
  log(`Building an image of ${Math.round(bytes / 1e6)} MB with docker ${classic.version} (${classic.store}) ...`);
  const builder = { command: commandOf(partOfDocker(classic.version), 'docker'), env: classic.env };
  await buildImage(builder, through('classic'), giantLayerRecipe('big', bytes));
  const builtId = await imageIdOf(classic, through('classic'));

  log(`Pushing it through nginx (client_max_body_size ${LIMIT}) into docker-registry ...`);
  const first = await pushed(classic, through('classic'), through('classic'), registry);
  log('Pulling it back with docker ...');
  const pulledId = await dockerPull(classic, through('classic'));
  await docker(classic, 'image', 'rm', '--force', through('classic'));

  log(
    `The same image in docker ${containerd.version} (${containerd.store}): by docker push to the registry, by us through nginx ...`,
  );
  await dockerPull(containerd, through('classic'));
  const direct = `${registry.host}/by-docker/big:1`;
  await docker(containerd, 'tag', through('classic'), direct);
  await docker(containerd, 'push', '--quiet', direct);
  const second = await pushed(containerd, through('classic'), `${nginx.host}/team/again:containerd`, registry);
  await docker(containerd, 'image', 'rm', '--force', through('classic'), direct);

  const bodies = nginx.requests().filter(({ method, status }) => /PATCH|PUT/.test(method) && status < 300);
  const largestBody = Math.max(...bodies.map(({ length }) => length));
  const dockerDigest = (await servedDigest(registry, 'by-docker/big', '1')) ?? '';
  return { classic: first, containerd: second, builtId, pulledId, dockerDigest, largestBody };
};

const pushed = async (
  engine: DockerAddress,
  image: string,
  tags: string,
  registry: DockerRegistry,
): Promise<Measured> => {
  const run = await runAction({ inputs: { image, tags }, env: engine.env, timeout: HOUR });
  const [, repository = '', tag = ''] = /^[^/]+\/(.+):([^:]+)$/.exec(tags) ?? [];
  return { run, served: await servedDigest(registry, repository, tag) };
};

const servedDigest = async (registry: DockerRegistry, repository: string, tag: string): Promise<string | null> => {
  const accept = ['index.v1', 'manifest.v1'].map((type) => `application/vnd.oci.image.${type}+json`);
  const docker = 'application/vnd.docker.distribution.manifest.v2+json';
  const headers = { accept: [...accept, docker].join(', ') };
  const answer = await fetch(`http://${registry.host}/v2/${repository}/manifests/${tag}`, { method: 'HEAD', headers });
  return answer.headers.get('docker-content-digest');
};
