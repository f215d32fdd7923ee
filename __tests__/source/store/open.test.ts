import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { chainIdsOf, type Digest, digestOf } from '../../../src/oci/types.ts';
import { StoreError } from '../../../src/source/store/files/folder.ts';
import { startHelper } from '../../../src/source/store/helper/client.ts';
import type { EngineFacts } from '../../../src/source/store/open.ts';
import { type Docker, docker, startDocker } from '../../support/real/docker.ts';
import { type HostedUser, hostedUser } from '../../support/real/hosted-user.ts';
import { commandOf } from '../../support/real/parts.ts';
import { startPodman } from '../../support/real/podman.ts';
import { asRoot, run } from '../../support/real/processes.ts';
import { describeWith } from '../../support/real/suite.ts';
import { digestOfStream, factsOf, opened, readLayers } from './reading.ts';
import { tarOf } from './varied-tars.ts';

/** Facts of an image that no engine has: each test changes what it is about. */
const factsWith = (info: object, more: Partial<EngineFacts> = {}): EngineFacts => ({
  engine: 'docker',
  imageId: digestOf(Buffer.from('no image')),
  info: async () => info,
  env: {},
  ...more,
});

const overlay2Info = (DockerRootDir: string): object => ({ Driver: 'overlay2', DriverStatus: [], DockerRootDir });

describe('obstacles before a file is opened', () => {
  const podman = { engine: 'podman' } as const;
  it.each<[string, EngineFacts, string]>([
    [
      'an engine on another host',
      factsWith({}, { env: { DOCKER_HOST: 'tcp://user:secret@10.0.0.1:2375' } }),
      'tcp://10.0.0.1:2375',
    ],
    ['an engine by ssh', factsWith({}, { env: { DOCKER_HOST: 'ssh://build@host' } }), 'is on another host'],
    [
      'a Podman service elsewhere',
      factsWith({}, { ...podman, env: { CONTAINER_HOST: 'ssh://host' } }),
      'is on another host',
    ],
    ['a Podman client', factsWith({ host: { serviceIsRemote: true } }, podman), 'a service elsewhere'],
    [
      'Docker Desktop',
      factsWith({ ...overlay2Info('/var/lib/docker'), OperatingSystem: 'Docker Desktop' }),
      'virtual machine',
    ],
    ['another driver', factsWith({ Driver: 'btrfs', DockerRootDir: '/var/lib/docker' }), 'storage driver is btrfs'],
    [
      'another driver of Podman',
      factsWith({ store: { graphDriverName: 'vfs', graphRoot: '/x' } }, podman),
      'driver is vfs',
    ],
    ['an engine that tells no folder', factsWith({}), 'does not name the folder'],
    ['a Podman that tells no folder', factsWith({}, podman), 'does not name the folder'],
    ['an engine in a machine of its own', factsWith(overlay2Info('/nowhere/docker')), 'ENOENT'],
    [
      'a containerd elsewhere',
      factsWith(overlay2Info('/nowhere/docker'), { root: digestOf(Buffer.from('x')) }),
      'is not there',
    ],
  ])('%s', async (_, facts, words) => {
    const { source, debug, notices } = await opened(facts);
    expect(source).toBeUndefined();
    expect(debug.at(-1)).toContain("The engine's own store is not read: ");
    expect(debug.at(-1)).toContain(words);
    expect(debug.join()).not.toContain('secret');
    expect(notices).toEqual([]);
    const error = await opened(facts, 'store').catch((reason) => reason);
    expect(error).toBeInstanceOf(StoreError);
    expect(error.message).toContain(words);
    expect(error.remedy).toContain('set export: auto or save');
  });

  it('an engine that gives no information', async () => {
    const facts = factsWith({}, { info: () => Promise.reject(new Error('docker info: exit code 1')) });
    expect((await opened(facts)).debug).toEqual(["The engine's own store is not read: docker info: exit code 1"]);
  });

  it('takes a local socket for a local engine', async () => {
    const facts = factsWith(overlay2Info('/nowhere/docker'), { env: { DOCKER_HOST: 'unix:///run/docker.sock' } });
    expect((await opened(facts)).debug.at(-1)).toContain('/nowhere/docker');
  });
});

describe('chainIDs', () => {
  it('follow the rule of image-spec config.md', () => {
    const [a, b, c] = ['a', 'b', 'c'].map((name) => digestOf(Buffer.from(name))) as [Digest, Digest, Digest];
    const ab = digestOf(Buffer.from(`${a} ${b}`));
    expect(chainIdsOf([a, b, c])).toEqual([a, ab, digestOf(Buffer.from(`${ab} ${c}`))]);
    expect(chainIdsOf([])).toEqual([]);
  });
});

describe('the helper', () => {
  it('is told apart from a sudo that refuses, and from one that is not there', async () => {
    const start = (...prefix: string[]) =>
      startHelper(['/nowhere'], { env: process.env, signal: new AbortController().signal, prefix });
    await expect(start('sh', '-c', 'echo "sudo: a password is required" >&2; exit 1')).rejects.toThrow(
      'the helper under sudo failed: sudo: a password is required',
    );
    await expect(start('/nowhere/sudo')).rejects.toThrow('ENOENT');
    await expect(
      start('sh', '-c', String.raw`printf '\000\000\000\000\000\000\000\000\003old'; sleep 1`),
    ).rejects.toThrow('another version');
  });

  it('ends with its input, and says so to streams that were under way', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'chunked-push-helper-'));
    writeFileSync(join(folder, 'blob'), Buffer.alloc(10_000_000));
    const helper = await startHelper([folder], { env: process.env, signal: new AbortController().signal, prefix: [] });
    const stream = helper.range(join(folder, 'blob'));
    await new Promise((resolve) => stream.once('readable', resolve));
    const reading = helper.bytes(join(folder, 'blob'));
    const failures = Promise.allSettled([reading, stream.toArray()]);
    await helper.close();
    expect((await failures).map(({ status }) => status)).toEqual(['rejected', 'rejected']);
    await expect(helper.bytes(join(folder, 'blob'))).rejects.toThrow(StoreError);
    rmSync(folder, { recursive: true });
  });

  it('ends when it is aborted', async () => {
    const controller = new AbortController();
    const helper = await startHelper(['/nowhere'], { env: process.env, signal: controller.signal, prefix: [] });
    controller.abort();
    await helper.close();
    await expect(helper.size('/nowhere/x')).rejects.toThrow(StoreError);
  });
});

interface Outcome {
  readonly debug: string[];
  readonly notices: string[];
  readonly opened?: boolean;
  readonly read?: { asked: Digest[]; came: Digest[] };
  readonly error?: { name: string; message: string; remedy: string };
}

const asUser = async (user: HostedUser, facts: EngineFacts, wanted: string, env: object): Promise<Outcome> => {
  const script = fileURLToPath(new URL('as-user.ts', import.meta.url));
  const [program = '', ...args] = user.command([process.execPath, script]);
  const child = spawn(program, args, { env: { ...process.env, ...user.env }, stdio: ['pipe', 'pipe', 'inherit'] });
  const { engine, imageId, root } = facts;
  child.stdin.end(JSON.stringify({ facts: { engine, imageId, root, env: {} }, info: await facts.info(), wanted, env }));
  return JSON.parse(await text(child.stdout)) as Outcome;
};

/** What leads to sudo: the runner's environment with `auto`, and `store` everywhere. */
const BY_SUDO = [
  ['auto', { RUNNER_ENVIRONMENT: 'github-hosted' }],
  ['store', {}],
] as const;

describeWith(['docker', 'sudo'], 'the overlay2 store of a running Docker', () => {
  let engine: Docker;
  let facts: EngineFacts;
  let work: string;
  beforeAll(async () => {
    work = mkdtempSync(join(tmpdir(), 'chunked-push-open-'));
    engine = await startDocker({ version: 'debian', store: 'overlay2' });
    const tar = join(work, 'layer.tar');
    writeFileSync(tar, await tarOf([{ name: 'file', mode: 0o600, body: 'content' }]));
    await docker(engine, 'import', tar, 'image');
    const client = { engine: 'docker', command: commandOf('docker', 'docker'), env: engine.env } as const;
    facts = await factsOf(client, 'image');
  });
  afterAll(async () => {
    await engine?.stop();
    rmSync(work, { recursive: true, force: true });
  });

  it.each(BY_SUDO)('is read as an ordinary user only by sudo: export: %s', async (wanted, env) => {
    const user = await hostedUser();
    try {
      const plain = await asUser(user, facts, 'auto', {});
      expect(plain).toMatchObject({ opened: false, notices: [] });
      expect(plain.debug.at(-1)).toContain('EACCES');
      const outcome = await asUser(user, facts, wanted, env);
      expect(outcome.opened).toBe(true);
      expect(outcome.read!.came).toEqual(outcome.read!.asked);
      expect(outcome.notices[0]).toContain('read-only helper under sudo');
      expect(outcome.notices[0]).toContain('export: save');
    } finally {
      user.remove();
    }
  });

  it.each(BY_SUDO)('says that sudo refuses, and never asks for a password: export: %s', async (wanted, env) => {
    const user = await hostedUser({ sudo: 'refused' });
    try {
      const outcome = await asUser(user, facts, wanted, env);
      expect(outcome.opened).not.toBe(true);
      expect(outcome.debug.at(0)).toContain('needs more rights');
      expect(outcome.error?.message ?? outcome.debug.at(-1)).toContain('the helper under sudo failed');
      if (wanted === 'store') expect(outcome.error!.remedy).toContain('run as root');
    } finally {
      user.remove();
    }
  });

  /** Runs with a file of the store changed by a shell command (`$1` is the file), and puts it back. */
  const spoiled = async (path: string, change: string, act: () => Promise<void>) => {
    const shell = (script: string) => {
      const [program, ...args] = asRoot(['sh', '-ec', script, 'sh', path]);
      return run(program!, args);
    };
    await shell(`cp -a "$1" "$1.kept"; ${change}`);
    try {
      await act();
    } finally {
      await shell('mv "$1.kept" "$1"');
    }
  };

  const record = (name: string) =>
    join(engine.dataRoot, 'image/overlay2/layerdb/sha256', facts.diffIds![0]!.slice(7), name);
  const config = () => join(engine.dataRoot, 'image/overlay2/imagedb/content/sha256', facts.imageId.slice(7));
  const inLayer = async (name: string) => {
    const [program, ...args] = asRoot(['cat', record('cache-id')]);
    return join(engine.dataRoot, 'overlay2', await run(program!, args), 'diff', name);
  };

  it.each<[string, () => string, string, string]>([
    ['a config that is gone', config, 'rm "$1"', 'ENOENT'],
    ['a config with other bytes', config, 'echo >> "$1"', 'is damaged'],
  ])('is not opened with %s', async (_, path, change, words) => {
    await spoiled(path(), change, async () => {
      const { source, debug } = await opened(facts);
      expect(source).toBeUndefined();
      expect(debug.at(-1)).toContain(words);
    });
  });

  it.each<[string, () => string, string, string]>([
    ['a layer without a record of its tar', () => record('tar-split.json.gz'), 'rm "$1"', 'no record of its tar'],
    ['a record of another layer', () => record('diff'), 'echo sha256:0 > "$1"', 'is of the layer sha256:0'],
    ['a record that leads elsewhere', () => record('cache-id'), 'echo ../../etc > "$1"', 'names no folder'],
  ])('does not give %s', async (_, path, change, words) => {
    await spoiled(path(), change, async () => {
      const { source } = await opened(facts);
      await expect(source!.open(facts.diffIds![0]!)).rejects.toThrow(words);
      await source!.close();
    });
  });

  it('opens nothing of the layers that are not asked for', async () => {
    writeFileSync(join(work, 'Dockerfile'), 'FROM image\nCOPY layer.tar /above\n');
    await docker(engine, 'build', '-q', '-t', 'above', work);
    const client = { engine: 'docker', command: commandOf('docker', 'docker'), env: engine.env } as const;
    const above = await factsOf(client, 'above');
    const base = await inLayer('.');
    await spoiled(join(base, '..', 'diff'), 'rm -r "$1"', async () => {
      const { source } = await opened(above);
      const [below, wanted] = above.diffIds!;
      const blob = await source!.open(wanted!);
      expect((await digestOfStream(blob!.read())).digest).toBe(wanted);
      await expect(digestOfStream((await source!.open(below!))!.read())).rejects.toThrow(StoreError);
      await source!.close();
    });
  });

  it('fails while reading when a file of a layer is gone or longer, and the digest tells when its bytes are others', async () => {
    const { source } = await opened(facts);
    for (const change of ['rm "$1"', 'echo >> "$1"']) {
      await spoiled(await inLayer('file'), change, () => expect(readLayers(source!)).rejects.toThrow(StoreError));
    }
    await spoiled(await inLayer('file'), 'printf CONTENT > "$1"', async () => {
      const { asked, came } = await readLayers(source!);
      expect(came).not.toEqual(asked);
    });
    const { asked, came } = await readLayers(source!);
    expect(came).toEqual(asked);
    await source!.close();
  });
});

describeWith(['podman'], 'a Podman with the vfs driver', () => {
  it('is left to podman save', async () => {
    const podman = await startPodman({ driver: 'vfs' });
    try {
      const tar = join(podman.storage, '..', 'layer.tar');
      writeFileSync(tar, await tarOf([{ name: 'file', body: 'content' }]));
      await podman.run('import', tar, 'image');
      const facts = await factsOf(
        { engine: 'podman', command: commandOf('podman', 'podman'), env: podman.env },
        'image',
      );
      const { source, debug } = await opened(facts);
      expect(source).toBeUndefined();
      expect(debug).toEqual([expect.stringContaining("Podman's storage driver is vfs")]);
    } finally {
      await podman.stop();
    }
  });
});
