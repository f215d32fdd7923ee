import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { createServer, type RequestListener, type Server } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { askDocker, imagePaths, socketOf } from '../../../src/source/engine/docker-api.ts';

let work: string;
let server: Server | undefined;
beforeEach(() => {
  work = mkdtempSync(join(tmpdir(), 'chunked-push-socket-'));
});
afterEach(async () => {
  server?.closeAllConnections();
  await new Promise((resolve) => (server ? server.close(resolve) : resolve(undefined)));
  server = undefined;
  rmSync(work, { recursive: true, force: true });
});

const never = new AbortController().signal;

describe('the socket that the command would ask', () => {
  const SOCKET = '/var/run/docker.sock';
  const tool = (text = '\x7fELF') => {
    writeFileSync(join(work, 'docker'), text);
    return join(work, 'docker');
  };
  const configured = (config?: string) => {
    mkdirSync(join(work, '.docker'), { recursive: true });
    if (config !== undefined) writeFileSync(join(work, '.docker', 'config.json'), config);
    return { HOME: work };
  };

  it('is the default one, or the one of DOCKER_HOST', async () => {
    expect(await socketOf(tool(), configured())).toBe(SOCKET);
    expect(await socketOf(tool(), configured('{"auths":{},"currentContext":"default"}'))).toBe(SOCKET);
    expect(await socketOf(tool(), { ...configured(), DOCKER_HOST: 'unix:///run/other.sock' })).toBe('/run/other.sock');
    const env = { ...configured('{"currentContext":"far"}'), DOCKER_HOST: 'unix:///run/other.sock' };
    expect(await socketOf(tool(), env)).toBe('/run/other.sock');
  });

  it.each([
    ['another host', { DOCKER_HOST: 'tcp://127.0.0.1:2375' }, undefined],
    ['a context', { DOCKER_CONTEXT: 'far' }, undefined],
    ['the current context', {}, '{"currentContext":"far"}'],
    ['headers', {}, '{"HttpHeaders":{"X-Meta":"1"}}'],
    ['a configuration that can not be read', {}, '{'],
    ['a version', { DOCKER_API_VERSION: '1.40' }, undefined],
    ['TLS', { DOCKER_TLS_VERIFY: '1' }, undefined],
  ])('is left to the command: %s', async (_, env, config) => {
    expect(await socketOf(tool(), { ...configured(config), ...env })).toBeUndefined();
  });

  it.each([
    ['a FIFO', (path: string) => execFileSync('mkfifo', [path])],
    ['a folder', (path: string) => mkdirSync(path)],
    ['a link to a device', (path: string) => symlinkSync('/dev/zero', path)],
  ])('is left to the command where the configuration or the command is %s', (_, make) => {
    const env = configured();
    make(join(work, '.docker', 'config.json'));
    expect(socketOf(tool(), env)).toBeUndefined();
    make(join(work, 'odd'));
    expect(socketOf(join(work, 'odd'), { HOME: join(work, 'nowhere') })).toBeUndefined();
  });

  it('is left to a command that is a script', async () => {
    expect(await socketOf(tool('#!/bin/sh\nexec podman "$@"\n'), configured())).toBeUndefined();
  });
});

describe('asking', () => {
  const listen = async (answer: RequestListener): Promise<string> => {
    const socket = join(work, 'engine.sock');
    server = createServer(answer);
    await new Promise<void>((resolve) => server?.listen(socket, resolve));
    return socket;
  };
  const answering = (body: string, status = 200, name = 'Docker/28.5.2 (linux)') =>
    listen((_, response) => response.writeHead(status, { server: name }).end(body));

  it('gives the object that Docker answers', async () => {
    expect(await askDocker(await answering('{"Id":"sha256:1"}'), '/info', never)).toEqual({ Id: 'sha256:1' });
  });

  it.each([
    ['an error', '{"message":"No such image"}', 404, 'Docker/28.5.2 (linux)'],
    ['Podman', '{"Id":"1"}', 200, 'Libpod/4.3.1 (linux)'],
    ['no JSON', 'hello', 200, 'Docker/28.5.2 (linux)'],
    ['too much', `"${'x'.repeat(9_000_000)}"`, 200, 'Docker/28.5.2 (linux)'],
  ])('leaves to the command: %s', async (_, body, status, name) => {
    expect(await askDocker(await answering(body, status, name), '/info', never)).toBeUndefined();
  });

  it('leaves to the command an answer that breaks off, and a socket that is not there', async () => {
    const socket = await listen((_, response) => {
      response.writeHead(200, { server: 'Docker/28', 'content-length': '100' });
      response.write('{"Id":', () => response.destroy());
    });
    expect(await askDocker(socket, '/info', never)).toBeUndefined();
    expect(await askDocker(join(work, 'nobody.sock'), '/info', never)).toBeUndefined();
  });

  it('ends with the signal, whatever the engine does', async () => {
    const cancel = new AbortController();
    const socket = await listen(() => cancel.abort(new Error('enough')));
    await expect(askDocker(socket, '/info', cancel.signal)).rejects.toThrow('enough');
    await expect(askDocker(socket, '/info', cancel.signal)).rejects.toThrow('enough');
  });
});

it.each([
  ['team/app:1.2', { inspect: '/images/team/app:1.2/json', history: '/images/team/app:1.2/history' }],
  [
    '127.0.0.1:5000/a@sha256:0',
    { inspect: '/images/127.0.0.1:5000/a@sha256:0/json', history: '/images/127.0.0.1:5000/a@sha256:0/history' },
  ],
  ['../info', undefined],
  ['a//b', undefined],
  ['a?b', undefined],
  ['', undefined],
])('the paths of %j are %j', (name, paths) => {
  expect(imagePaths(name)).toEqual(paths);
});
