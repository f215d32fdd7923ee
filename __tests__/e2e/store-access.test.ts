/** Who may read an engine's store, and what is opened of it: as root, by sudo, as an ordinary user; seen by strace. */
import { randomBytes } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createConnection, createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { type HostedUser, hostedUser } from '../support/real/hosted-user.ts';
import { commandOf } from '../support/real/parts.ts';
import { privateFolder, removeFolder, rootPrefix, run } from '../support/real/processes.ts';
import { pullBack } from '../support/real/pull.ts';
import { describeWith } from '../support/real/suite.ts';
import { type Registry, startRegistry } from '../support/registry/server.ts';
import { type ActionRun, type RunActionOptions, runAction } from '../support/runner.ts';
import { STORES, type StoreEngine, type StoreKind } from './store-engines.ts';

const MB = 1_000_000;
const IMAGE = 'e2e.example/access/app:1';
const RECIPE = {
  seed: 'access',
  layers: [
    { bytes: 400_000, files: 4 },
    { bytes: MB, content: 'random' as const, files: 3 },
  ],
};

/** Pulls the image back and compares it with what the engine says of it. */
const expectPushed = async (run: ActionRun, engine: StoreEngine, kind: StoreKind, reference: string): Promise<void> => {
  expect(run.errors).toEqual([]);
  expect(run.exitCode).toBe(0);
  const pulled = await pullBack(reference);
  expect(run.outputs.digest).toBe(pulled.digest);
  const { imageId, diffIds } = engine;
  expect([pulled.diffIds, kind.keepsManifests ? pulled.digest : pulled.configDigest]).toEqual([diffIds, imageId]);
};

/** What runs a command as root, its environment kept. */
const ROOT = rootPrefix();

/** Runs the action as root under strace; gives the run and every file that it opened, but not what engines' clients open. */
const traced = async (options: RunActionOptions): Promise<{ run: ActionRun; opened: string[] }> => {
  const folder = mkdtempSync(join(tmpdir(), 'chunked-push-strace-'));
  try {
    const trace = join(folder, 'trace');
    const strace = [
      commandOf('strace', 'strace'),
      '-f',
      '-qq',
      '-y',
      '-b',
      'execve',
      '-e',
      'trace=open,openat,openat2',
    ];
    const run = await runAction({ ...options, prefix: [...ROOT, ...strace, '-o', trace] });
    // `openat(AT_FDCWD</cwd>, "/proc/self/fd/20/name", O_RDONLY) = 21</where/it/is>`
    const opened = [...readFileSync(trace, 'utf8').matchAll(/ = \d+<(\/[^>\n]*)>$/gm)].map(([, path]) => path!);
    return { run, opened: [...new Set(opened)] };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
};

/** Puts one layer of 2 MB on top of the image. */
const addLayer = async (engine: StoreEngine, to: string): Promise<void> => {
  const folder = mkdtempSync(join(tmpdir(), 'chunked-push-layer-'));
  writeFileSync(join(folder, 'added'), randomBytes(2 * MB));
  writeFileSync(join(folder, 'Dockerfile'), `FROM ${IMAGE}\nCOPY added /added\n`);
  await engine.run('build', '--quiet', '--tag', to, folder);
  rmSync(folder, { recursive: true });
};

for (const kind of STORES) {
  describeWith([kind.part, 'strace', 'skopeo'], `what is opened of the store of ${kind.name}`, () => {
    let engine: StoreEngine;
    let registry: Registry;
    beforeAll(async () => {
      [engine, registry] = await Promise.all([kind.start(IMAGE, RECIPE), startRegistry()]);
    }, 300_000);
    afterAll(() => Promise.all([engine?.stop(), registry?.close()]));

    const push = async (image: string, tags: string, way: string) => {
      const inputs = { image, tags, export: way, cache: 'false', engine: kind.tool };
      const { run, opened } = await traced({ inputs, env: engine.env });
      return { run, opened: opened.filter((path) => path.startsWith(`${engine.root}/`)) };
    };

    it('nothing at all with export: save', async () => {
      const tags = `${registry.host}/access/save:1`;
      const { run, opened } = await push(IMAGE, tags, 'save');
      await expectPushed(run, engine, kind, tags);
      expect(opened).toEqual([]);
    });

    it('all of its layers with export: auto, and the log says what is read and how to turn that off', async () => {
      const tags = `${registry.host}/access/auto:1`;
      const { run, opened } = await push(IMAGE, tags, 'auto');
      await expectPushed(run, engine, kind, tags);
      expect(opened).toContain((await engine.filesOf(IMAGE)).content);
      expect(run.visible).toMatch(new RegExp(`Layers are read straight from .*${engine.root}.*export: save`));
    });

    it('on a fresh runner with one changed layer only what belongs to that layer', async () => {
      const repository = `${registry.host}/access/changed`;
      expect((await push(IMAGE, `${repository}:latest`, 'auto')).run.exitCode).toBe(0);
      const changed = 'e2e.example/access/changed:1';
      await addLayer(engine, changed);
      const before = registry.uploadedBytes();
      const { run, opened } = await push(changed, `${repository}:2`, 'auto');
      expect(run.errors).toEqual([]);
      expect(registry.uploadedBytes() - before).toBeLessThan(2.1 * MB);
      expect((await pullBack(`${repository}:2`)).diffIds).toHaveLength(3);
      const { layer, config, documents } = await engine.filesOf(changed);
      const isOf = (owners: readonly string[]) => (path: string) =>
        owners.some((own) => path === own || path.startsWith(`${own}/`));
      const known = [...layer, config, ...documents];
      const isFolderOf = (path: string) => known.some((own) => own.startsWith(`${path}/`));
      expect(opened.some(isOf(layer))).toBe(true);
      expect(opened.filter((path) => !isOf(known)(path) && !isFolderOf(path))).toEqual([]);
      await engine.run('image', 'rm', '--force', changed);
    });
  });
}

/** A server whose connections go on to a socket. */
const relayTo = (path: string): Server =>
  createServer((client) => {
    const server = createConnection(path);
    for (const [from, to] of [
      [client, server],
      [server, client],
    ] as const) {
      from.on('error', () => to.destroy());
      from.pipe(to);
    }
  });

describeWith(['docker', 'sudo', 'skopeo'], 'the store of an engine, read', () => {
  const kind = STORES[0]!;
  let engine: StoreEngine;
  let registry: Registry;
  /** With sudo, and without. */
  let user: HostedUser;
  let refused: HostedUser;

  beforeAll(async () => {
    [engine, registry] = await Promise.all([kind.start(IMAGE, RECIPE), startRegistry()]);
    const docker = { host: engine.env.DOCKER_HOST!, env: { PATH: engine.env.PATH! } };
    [user, refused] = await Promise.all([hostedUser({ docker }), hostedUser({ docker, sudo: 'refused' })]);
  }, 300_000);

  afterAll(async () => {
    user?.remove();
    refused?.remove();
    await Promise.all([engine?.stop(), registry?.close()]);
  });

  /** One push as an ordinary user. */
  const pushAs = async (
    user: HostedUser,
    name: string,
    inputs: Readonly<Record<string, string>>,
    env: Readonly<Record<string, string>> = {},
  ) => {
    const reference = `${registry.host}/access/${name}:1`;
    const run = await runAction({
      user,
      inputs: { image: IMAGE, tags: reference, cache: 'false', engine: 'docker', ...inputs },
      env,
    });
    return { run, reference };
  };

  const expectSaved = async ({ run, reference }: { run: ActionRun; reference: string }) => {
    expect(run.errors).toEqual([]);
    expect(run.exitCode).toBe(0);
    const pulled = await pullBack(reference);
    expect([pulled.diffIds, pulled.configDigest]).toEqual([engine.diffIds, engine.imageId]);
    expect(run.visible).not.toContain('read straight from');
  };

  it('by an ordinary user without sudo: save does it, and the log names the obstacle', async () => {
    const pushed = await pushAs(refused, 'user', {});
    await expectSaved(pushed);
    expect(pushed.run.debugs.join('\n')).toMatch(/The engine's own store is not read: cannot read .*EACCES/);
    expect(pushed.run.visible).not.toContain('sudo');
  });

  it('by an ordinary user whom sudo refuses: save does it; export: store says so', async () => {
    const pushed = await pushAs(refused, 'refused', {}, { RUNNER_ENVIRONMENT: 'github-hosted' });
    await expectSaved(pushed);
    expect(pushed.run.debugs.join('\n')).toMatch(/EACCES, and the helper under sudo failed: sudo: /);
    const { run } = await pushAs(refused, 'refused-store', { export: 'store' });
    expect(run.exitCode).toBe(1);
    expect(run.errors).toEqual([
      expect.stringMatching(/EACCES, and the helper .*run as root, or set export: auto or save/s),
    ]);
    expect(registry.tags('access/refused-store')).toEqual([]);
  });

  it.each([
    ["on GitHub's own runners", 'auto', 'github-hosted'],
    ['elsewhere when it is asked for', 'store', 'self-hosted'],
  ])('by sudo %s, read-only, and the log says so', async (name, way, environment) => {
    const env = { RUNNER_ENVIRONMENT: environment };
    const { run, reference } = await pushAs(user, `sudo-${environment}`, { export: way }, env);
    expect(run.errors).toEqual([]);
    const pulled = await pullBack(reference);
    expect([name, pulled.diffIds, pulled.configDigest]).toEqual([name, engine.diffIds, engine.imageId]);
    expect(run.visible).toMatch(
      /A read-only helper under sudo reads the engine's files below .*; turn this off with `export: save`/,
    );
    expect(run.visible).toContain(`read straight from the overlay2 store of Docker (${engine.root})`);
  });

  it('never by sudo elsewhere unless it is asked for', async () => {
    const pushed = await pushAs(user, 'never', {});
    await expectSaved(pushed);
    expect(pushed.run.log).not.toContain('sudo');
  });

  /** How a client is led to an engine that is not on this machine, and what the log calls the obstacle. */
  const ELSEWHERE: Readonly<
    Record<string, { env(port: number, folder: string): Promise<Record<string, string | undefined>>; words: RegExp }>
  > = {
    DOCKER_HOST: {
      env: async (port) => ({ DOCKER_HOST: `tcp://127.0.0.1:${port}` }),
      words: /on another host: DOCKER_HOST is tcp:/,
    },
    'a context': {
      env: async (port, folder) => {
        const config = { DOCKER_CONFIG: folder, DOCKER_HOST: undefined };
        const docker = (...args: readonly string[]) =>
          run(commandOf('docker', 'docker'), args, { env: { ...process.env, ...config } });
        await docker('context', 'create', 'far', '--docker', `host=tcp://127.0.0.1:${port}`);
        await docker('context', 'use', 'far');
        return config;
      },
      words: /store is not read: cannot read .*ENOENT|store can't be read: cannot read .*ENOENT/,
    },
  };

  it.each(Object.keys(ELSEWHERE))('not at all where %s leads to another host: save does it', async (name) => {
    const folder = privateFolder('access');
    const relay = relayTo(engine.env.DOCKER_HOST!.replace('unix://', ''));
    await new Promise<void>((resolve) => relay.listen(0, '127.0.0.1', resolve));
    const { env, words } = ELSEWHERE[name]!;
    const reference = `${registry.host}/access/elsewhere-${name === 'DOCKER_HOST' ? 'host' : 'context'}:1`;
    const push = async (way: string) =>
      runAction({
        inputs: { image: IMAGE, tags: reference, cache: 'false', engine: 'docker', export: way },
        env: { ...engine.env, ...place },
        // The engine's files are hidden from the action, as those of another machine are.
        prefix: [...ROOT, 'unshare', '--mount', 'sh', '-ec', `mount -t tmpfs none '${engine.root}'; exec "$@"`, 'sh'],
      });
    const place = await env((relay.address() as { port: number }).port, folder);
    const refused = await push('store');
    expect(refused.exitCode).toBe(1);
    expect(refused.errors).toEqual([expect.stringMatching(words)]);
    expect(refused.errors[0]).toContain('set export: auto or save');
    const pushed = await push('auto');
    await expectSaved({ run: pushed, reference });
    expect(pushed.debugs.join('\n')).toMatch(words);
    relay.close();
    removeFolder(folder);
  });
});
