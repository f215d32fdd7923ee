/** Why an engine gave no image, and what the user can do about it: an engine that does not answer is not one that lacks the image. */

import { type Answer, type EngineName, firstWords } from './command.ts';

export interface NoImage {
  readonly engine: EngineName;
  readonly why: 'not installed' | 'no such image' | 'unreachable' | 'failed';
  /** What the engine's own tool printed. */
  readonly words: string;
}

/** moby: "No such image", "No such object"; Podman: "image not known", "unable to find". */
const NO_SUCH_IMAGE = /no such (image|object)\b|image not known|unable to find/i;

/** A kind of trouble on the way to the engine, by the words of docker's and podman's commands, and its remedy. */
const ROADBLOCKS: readonly { readonly words: RegExp; remedy(engine: EngineName): string }[] = [
  {
    // docker/cli: `context "x": context not found`, `current context "x" is not found on the file system`.
    words: /\bcontext\b.*\b(not found|does not exist)|load context|unable to resolve docker endpoint: context/i,
    remedy: () =>
      'DOCKER_CONTEXT or `docker context use` names a context that is not there: choose one of `docker context ls`, or set DOCKER_CONTEXT=default',
  },
  {
    words: /\b(ca|cert|key)\.pem\b|x509|certificate|\btls\b|https? (response|request)|http: server gave/i,
    remedy: () =>
      'the TLS settings do not fit: check DOCKER_HOST, DOCKER_TLS_VERIFY, and ca.pem, cert.pem and key.pem in DOCKER_CERT_PATH',
  },
  {
    words: /permission denied|operation not permitted|access is denied/i,
    remedy: (engine) =>
      engine === 'docker'
        ? 'this user may not use its socket: add it to the group that owns the socket (`sudo usermod -aG docker USER`, then log in again), or run the job as a user who is in it'
        : 'this user may not read its storage: run the job as the user who built the image',
  },
  {
    words: /client version .* is too (new|old)|api version/i,
    remedy: () => 'the docker command and its engine are of versions that do not fit: update the older one',
  },
  {
    words:
      /cannot connect|failed to connect|error during connect|\bdial\b|connection refused|connection reset|no such host|i\/o timeout|failed to initialize|is the docker daemon running|connect to (the )?podman|no answer within|protocol not available|unable to parse docker host/i,
    remedy: (engine) =>
      engine === 'docker'
        ? 'start it (`docker info` must work in the same step), and check DOCKER_HOST; a container job needs the socket /var/run/docker.sock mounted'
        : 'start it (`podman info` must work in the same step), and check CONTAINER_HOST and `podman system connection list`',
  },
];

const roadblockIn = (text: string) => ROADBLOCKS.find(({ words }) => words.test(text));

/** What a failed `image inspect` means. */
export function refusalOf(engine: EngineName, { code, stderr }: Answer): NoImage {
  const words = firstWords(stderr) || `${engine} image inspect ended with exit code ${code}`;
  // The words of a missing image come from the engine itself: it was reached.
  if (NO_SUCH_IMAGE.test(stderr)) return { engine, why: 'no such image', words };
  return { engine, why: roadblockIn(stderr) ? 'unreachable' : 'failed', words };
}

/**
 * What to do when no engine has the image. An engine that did not answer comes first: it may have the image, whatever
 * the other one says. GitHub's runners have Podman beside Docker.
 */
export function remedyFor(refusals: readonly NoImage[]): string {
  const unreachable = refusals.find(({ why }) => why === 'unreachable');
  if (unreachable) {
    const { engine, words } = unreachable;
    const name = engine === 'docker' ? 'Docker' : 'Podman';
    return `${name} did not answer: ${roadblockIn(words)?.remedy(engine) ?? `\`${engine} info\` must work in the same step`}`;
  }
  if (refusals.some(({ why }) => why === 'no such image'))
    return 'build or pull it first (with docker/build-push-action: load: true), and check its name with docker images';
  const failed = refusals.find(({ why }) => why === 'failed');
  if (failed) return `\`${failed.engine} image inspect\` must work in the same step: check the image's name there`;
  return 'install docker or podman and start it, or push from a file: docker-archive:FILE, oci-archive:FILE, oci:DIR';
}
