import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { inspectImage, isFound } from '../../../src/source/engine/inspect.ts';

const ROOT = `sha256:${'a'.repeat(64)}`;
const LAYER = `sha256:${'b'.repeat(64)}`;
const CONTAINERD = { Driver: 'overlayfs', DriverStatus: [['driver-type', 'io.containerd.snapshotter.v1']] };
const OVERLAY2 = { Driver: 'overlay2', DriverStatus: [['Backing Filesystem', 'extfs']] };
const INSPECT = { Id: ROOT, RootFS: { Layers: [LAYER] } };

let work: string;
let server: Server | undefined;
let asked: string[];
beforeEach(() => {
  work = mkdtempSync(join(tmpdir(), 'chunked-push-history-'));
  asked = [];
});
afterEach(async () => {
  server?.closeAllConnections();
  await new Promise((resolve) => (server ? server.close(resolve) : resolve(undefined)));
  server = undefined;
  rmSync(work, { recursive: true, force: true });
});

/** An engine that answers so to `app:1`; what it has no answer to gets a 404. Its command can't be run. */
async function engineWith(answers: Readonly<Record<string, unknown>>): Promise<NodeJS.ProcessEnv> {
  const socket = join(work, 'engine.sock');
  server = createServer(({ url = '' }, response) => {
    asked.push(url);
    const answer = answers[url];
    response.writeHead(answer === undefined ? 404 : 200, { server: 'Docker/28.5.2 (linux)' });
    response.end(JSON.stringify(answer ?? { message: 'No such image' }));
  });
  await new Promise<void>((resolve) => server?.listen(socket, resolve));
  writeFileSync(join(work, 'docker'), '\x7fELF');
  chmodSync(join(work, 'docker'), 0o755);
  return { PATH: work, HOME: work, DOCKER_HOST: `unix://${socket}` };
}

const HISTORY = '/images/app:1/history';
const JSON_OF = '/images/app:1/json';
const signal = new AbortController().signal;

async function imageOf(answers: Readonly<Record<string, unknown>>, rootSuffices = true) {
  const env = await engineWith(answers);
  const answer = await inspectImage('docker', 'app:1', { env, signal, rootSuffices });
  if (!isFound(answer)) throw new Error(`not found: ${answer.message}`);
  return answer;
}

describe('an image whose root is all that is needed', () => {
  it('is found by its history and info, and its layers only when somebody asks for them', async () => {
    const image = await imageOf({
      [HISTORY]: [{ Id: ROOT }, { Id: '<missing>' }],
      '/info': CONTAINERD,
      [`/images/${ROOT}/json`]: INSPECT,
    });
    expect(image).toMatchObject({ engine: 'docker', name: 'app:1', imageId: ROOT, root: ROOT });
    expect(image.diffIds).toBeUndefined();
    expect(await image.info()).toEqual(CONTAINERD);
    expect(asked.sort()).toEqual([HISTORY, '/info']);
    expect(await image.layers()).toEqual([LAYER]);
  });

  it('says so when it is gone before its layers are asked for', async () => {
    const image = await imageOf({ [HISTORY]: [{ Id: ROOT }], '/info': CONTAINERD });
    await expect(image.layers()).rejects.toMatchObject({
      name: 'ImageError',
      step: 'Export',
      message: expect.stringContaining('app:1 is no longer in docker'),
    });
  });

  it.each([
    ['a classic store', { [HISTORY]: [{ Id: ROOT }], '/info': OVERLAY2 }],
    ['an engine that tells nothing of its store', { [HISTORY]: [{ Id: ROOT }], '/info': { DriverStatus: null } }],
    ['an engine without info', { [HISTORY]: [{ Id: ROOT }] }],
    ['an image without history', { [HISTORY]: [], '/info': CONTAINERD }],
    ['a history without an ID', { [HISTORY]: [{ Id: '<missing>' }], '/info': CONTAINERD }],
    ['a history that is none', { [HISTORY]: { message: 'no' }, '/info': CONTAINERD }],
    ['no history of this platform', { '/info': CONTAINERD }],
  ])('is found by inspect in %s', async (_, answers) => {
    const image = await imageOf({ ...answers, [JSON_OF]: INSPECT });
    expect(image).toMatchObject({ imageId: ROOT, diffIds: [LAYER] });
    expect(image.root).toBeUndefined();
    expect(await image.layers()).toEqual([LAYER]);
    expect(asked).toContain(JSON_OF);
  });
});

it('an engine with a classic store is asked for its info once', async () => {
  const image = await imageOf({ [HISTORY]: [{ Id: ROOT }], '/info': OVERLAY2, [JSON_OF]: INSPECT });
  expect(await image.info()).toEqual(OVERLAY2);
  expect(asked.filter((path) => path === '/info')).toHaveLength(1);
});

it('an image that will be exported is inspected at once', async () => {
  await imageOf({ [HISTORY]: [{ Id: ROOT }], '/info': CONTAINERD, [JSON_OF]: INSPECT }, false);
  expect(asked).toEqual([JSON_OF]);
});
