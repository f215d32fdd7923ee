/** An engine that can't be reached is told apart from one that lacks the image, in the words of docker's and podman's own commands. */
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { delimiter, dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { refusalOf, remedyFor } from '../../../src/source/engine/command.ts';
import { inspectImage, isFound } from '../../../src/source/engine/inspect.ts';
import { findImage } from '../../../src/source/find/find.ts';
import { commandOf, type PartName } from '../../support/real/parts.ts';
import { describeWith } from '../../support/real/suite.ts';

const never = new AbortController().signal;
const answer = (stderr: string) => ({ code: 1, stdout: '[]', stderr });

describe('what a failed inspect means', () => {
  it.each([
    ['docker', 'Error: No such image: app:1', 'no such image', /load: true/],
    ['docker', 'Error response from daemon: No such image: app:1', 'no such image', /load: true/],
    ['docker', 'Error: No such object: app:1', 'no such image', /load: true/],
    ['podman', 'Error: inspecting object: app:1: image not known', 'no such image', /load: true/],
    ['podman', 'Error: unable to inspect "app:1": unable to find "app:1" in local storage', 'no such image', /load/],
    ['docker', 'Error response from daemon: invalid reference format', 'failed', /`docker image inspect` must work/],
    [
      'docker',
      'Got permission denied while trying to connect to the Docker daemon socket at unix:///var/run/docker.sock: Get "http://%2Fvar%2Frun%2Fdocker.sock/v1.24/images/app:1/json": dial unix /var/run/docker.sock: connect: permission denied',
      'unreachable',
      /usermod -aG docker/,
    ],
    [
      'docker',
      'permission denied while trying to connect to the docker API at unix:///var/run/docker.sock',
      'unreachable',
      /usermod -aG docker/,
    ],
    [
      'docker',
      'failed to connect to the docker API at unix:///run/x.sock; check if the path is correct and if the daemon is running: dial unix /run/x.sock: connect: no such file or directory',
      'unreachable',
      /start it .*DOCKER_HOST/,
    ],
    [
      'docker',
      'error during connect: Get "https://10.0.0.1:2376/v1.47/images/app:1/json": tls: failed to verify certificate: x509: certificate signed by unknown authority',
      'unreachable',
      /DOCKER_CERT_PATH/,
    ],
    [
      'docker',
      'Error response from daemon: Client sent an HTTP request to an HTTPS server.',
      'unreachable',
      /DOCKER_TLS_VERIFY/,
    ],
    [
      'docker',
      'Error response from daemon: client version 1.52 is too new. Maximum supported API version is 1.41',
      'unreachable',
      /update the older one/,
    ],
    [
      'docker',
      'error during connect: Get "http://docker.example.com/v1.47/images/app:1/json": command [ssh -o ConnectTimeout=30 -T -- host docker system dial-stdio] has exited with exit status 255',
      'unreachable',
      /start it .*DOCKER_HOST/,
    ],
    [
      'podman',
      'Cannot connect to Podman. Please verify your connection to the Linux system using `podman system connection list`',
      'unreachable',
      /CONTAINER_HOST/,
    ],
  ] as const)('%s: %s', (engine, stderr, why, remedy) => {
    const refusal = refusalOf(engine, answer(stderr));
    expect(refusal.why).toBe(why);
    expect(remedyFor([refusal])).toMatch(remedy);
    const lacking = refusalOf('podman', answer('Error: inspecting object: app:1: image not known'));
    expect(remedyFor([refusal, lacking])).toMatch(why === 'failed' ? /load: true/ : remedy);
    if (why === 'unreachable') expect(remedyFor([refusal, lacking])).toMatch(/^(Docker|Podman) did not answer: /);
  });

  it('says what to install where neither engine is', () => {
    const none = (engine: 'docker' | 'podman') => ({ engine, why: 'not installed', message: '' }) as const;
    expect(remedyFor([none('docker'), none('podman')])).toMatch(/^install docker or podman/);
  });
});

const CLIENTS: readonly PartName[] = ['docker', 'docker-trixie', 'docker-sid'];

for (const part of CLIENTS) {
  describeWith([part], `the docker command of ${part} with a Podman that lacks the image`, () => {
    let folder: string;
    let server: Server;
    const sockets = new Set<Socket>();

    beforeAll(async () => {
      folder = mkdtempSync(join(tmpdir(), 'chunked-push-refusal-'));
      const podman = '#!/bin/sh\necho "Error: inspecting object: app:1: image not known" >&2; exit 125\n';
      writeFileSync(join(folder, 'podman'), podman, { mode: 0o755 });
      writeFileSync(join(folder, 'file.sock'), '');
      chmodSync(join(folder, 'file.sock'), 0o600);
      // Accepts connections and never answers.
      server = createServer((socket) => void sockets.add(socket.on('error', () => {})));
      await new Promise<void>((resolve) => server.listen(join(folder, 'hanging.sock'), resolve));
    });

    afterAll(async () => {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
      rmSync(folder, { recursive: true });
    });

    const envWith = (more: NodeJS.ProcessEnv): NodeJS.ProcessEnv => ({
      PATH: [folder, dirname(commandOf(part, 'docker')), process.env.PATH].join(delimiter),
      HOME: folder,
      ...more,
    });

    it.each<[string, NodeJS.ProcessEnv, RegExp]>([
      ['no socket', { DOCKER_HOST: 'unix:///run/nothing.sock' }, /start it/],
      ['no engine at its address', { DOCKER_HOST: 'tcp://127.0.0.1:1' }, /start it/],
      ['a host without an address', { DOCKER_HOST: 'tcp://docker.invalid:2375' }, /start it/],
      [
        'no certificates',
        { DOCKER_HOST: 'tcp://127.0.0.1:1', DOCKER_TLS_VERIFY: '1', DOCKER_CERT_PATH: '/nonexistent' },
        /DOCKER_CERT_PATH/,
      ],
      ['a context that is missing', { DOCKER_CONTEXT: 'nope' }, /docker context ls/],
    ])('%s', async (_, env, remedy) => {
      const finding = findImage({ image: 'app:1', engine: 'auto', env: envWith(env), signal: never });
      const error = await finding.then(
        () => undefined,
        (reason) => reason,
      );
      expect(error?.message).toContain('no image "app:1" was found: docker: ');
      expect(error?.remedy).toMatch(/^Docker did not answer: /);
      expect(error?.remedy).toMatch(remedy);
      expect(error?.remedy).not.toContain('load: true');
    });

    it('a socket that accepts connections and does not answer', async () => {
      const env = envWith({ DOCKER_HOST: `unix://${join(folder, 'hanging.sock')}` });
      const refusal = await inspectImage('docker', 'app:1', { env, signal: never, answerMs: 300 });
      if (isFound(refusal)) throw new Error('there is no image');
      expect(refusal).toEqual({ engine: 'docker', why: 'unreachable', message: 'no answer within 0.3 s' });
      expect(remedyFor([refusal])).toMatch(/^Docker did not answer: start it/);
    });
  });
}
