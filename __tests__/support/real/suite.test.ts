import { existsSync } from 'node:fs';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { buildImage, loadImage, smallRecipe } from '../images.ts';
import { type DockerAddress, docker, dockerPull, imageIdOf } from './docker.ts';
import { startNginx } from './nginx.ts';
import { commandOf, leftOut, WITHOUT_VARIABLE } from './parts.ts';
import { freePort, privateFolder, startServer } from './processes.ts';
import { pullBack } from './pull.ts';
import { type DockerRegistry, REGISTRY_LOGIN, startDockerRegistry } from './registry.ts';
import { describeWith, sharedDocker } from './suite.ts';

describeWith(['docker', 'docker-registry', 'nginx', 'skopeo'], 'the real parts', () => {
  let engine: DockerAddress;
  let registry: DockerRegistry;

  beforeAll(async () => {
    registry = await startDockerRegistry();
    engine = await sharedDocker({ version: 'debian', store: 'overlay2' });
  });

  afterAll(() => registry?.stop());

  it('carry an image from the engine through nginx to the registry and back', async () => {
    const nginx = await startNginx({ upstream: registry.host, clientMaxBodySize: '100m' });
    const reference = `${nginx.host}/parts/app:1`;
    const builder = { command: commandOf('docker', 'docker'), env: engine.env };
    const { configDigest, diffIds } = await loadImage(builder, reference, smallRecipe('parts'));
    await docker(engine, 'push', '--quiet', reference);
    const pulled = await pullBack(reference);
    expect(pulled).toMatchObject({ configDigest, diffIds });
    expect(registry.manifests()).toEqual([`parts/app@${pulled.digest}`]);
    expect(registry.openUploads()).toEqual([]);
    expect(nginx.requests().some(({ method, status }) => method === 'PATCH' && status === 202)).toBe(true);
    expect(await dockerPull(engine, reference)).toBe(configDigest);
    await nginx.stop();
  });

  it('build seeded images: the same contents, every time', async () => {
    const builder = { command: commandOf('docker', 'docker'), env: engine.env };
    await buildImage(builder, 'parts/built:1', {
      seed: 'a',
      layers: [{ bytes: 10_000, files: 3 }, 'empty', { repeat: 0 }],
    });
    const layers = await docker(engine, 'image', 'inspect', '--format', '{{join .RootFS.Layers " "}}', 'parts/built:1');
    const [first, folder, again] = layers.trim().split(' ');
    expect(again).toBe(first);
    expect(folder).not.toBe(first);
    expect(await imageIdOf(engine, 'parts/built:1')).toMatch(/^sha256:/);
  });

  it('say so when nginx refuses a body', async () => {
    const nginx = await startNginx({ upstream: registry.host, clientMaxBodySize: '1m' });
    const answer = await fetch(`http://${nginx.host}/v2/x/blobs/uploads/`, {
      method: 'POST',
      body: Buffer.alloc(1_100_000),
    });
    expect([answer.status, await answer.text()]).toEqual([
      413,
      expect.stringContaining('413 Request Entity Too Large'),
    ]);
    await nginx.stop();
  });

  it('count uploads that nobody closed, and ask for the login', async () => {
    const opened = await fetch(`http://${registry.host}/v2/left/open/blobs/uploads/`, { method: 'POST' });
    expect(registry.openUploads()).toEqual([`left/open/${opened.headers.get('docker-upload-uuid')}`]);
    const locked = await startDockerRegistry({ auth: true });
    const { username, password } = REGISTRY_LOGIN;
    const ask = async (secret: string) =>
      (
        await fetch(`http://${locked.host}/v2/`, {
          headers: { authorization: `Basic ${btoa(`${username}:${secret}`)}` },
        })
      ).status;
    expect([await ask(password), await ask('wrong')]).toEqual([200, 401]);
    await locked.stop();
  });
});

it('startServer tells why a server did not start, and leaves nothing behind', async () => {
  const folder = privateFolder('broken');
  const server = startServer({ folder, command: ['sh', '-c', 'echo no such option; exit 4'] });
  await expect(server.until(() => undefined)).rejects.toThrow(/did not start: it ended with 4\nno such option/);
  expect(existsSync(folder)).toBe(false);
});

it('startServer removes a running server and its folder', async () => {
  const folder = privateFolder('running');
  const port = await freePort();
  const listen = `require('node:http').createServer((q, a) => a.end('up')).listen(${port}, '127.0.0.1')`;
  const server = startServer({ folder, command: [process.execPath, '-e', listen] });
  const ask = () =>
    fetch(`http://127.0.0.1:${port}/`).then(
      (answer) => answer.text(),
      () => undefined,
    );
  expect(await server.until(ask)).toBe('up');
  await server.stop();
  expect([await ask(), existsSync(folder)]).toEqual([undefined, false]);
});

it('a part that is none can not be left out', () => {
  const before = process.env[WITHOUT_VARIABLE];
  process.env[WITHOUT_VARIABLE] = 'docker, dokcer';
  try {
    expect(leftOut).toThrow('names dokcer');
  } finally {
    if (before === undefined) delete process.env[WITHOUT_VARIABLE];
    else process.env[WITHOUT_VARIABLE] = before;
  }
});
