/** Every example, run: its own steps against real registries, the other actions by what they leave behind. */
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { parse } from 'yaml';
import { digestOf, type Index, MediaType } from '../../src/oci/types.ts';
import { buildImage } from '../support/images.ts';
import { LayoutFolder, tarOf } from '../support/layout.ts';
import { type DockerAddress, docker } from '../support/real/docker.ts';
import { commandOf } from '../support/real/parts.ts';
import { run } from '../support/real/processes.ts';
import { type DockerRegistry, REGISTRY_LOGIN, startDockerRegistry } from '../support/real/registry.ts';
import { describeWith, sharedDocker } from '../support/real/suite.ts';
import { ACTION_VARIABLE, freshRunner, type Runner, runAction } from '../support/runner.ts';
import { runWorkflow, type UsedAction } from '../support/workflow.ts';

const root = fileURLToPath(new URL('../../', import.meta.url));
const EXAMPLES = readdirSync(join(root, 'examples')).filter((name) => name.endsWith('.yml'));
const BASE = { amd64: 'examples/base:amd64', arm64: 'examples/base:arm64' };

type Outputs = Readonly<Record<string, string>>;

describeWith(['docker-trixie', 'docker-registry', 'skopeo'], 'the example', () => {
  let folder: string;
  let engine: DockerAddress;
  /** Asks for a login, as registry.example.com does. */
  let locked: DockerRegistry;
  /** All other registries. */
  let open: DockerRegistry;
  let runner: Runner;
  /** What was pushed by the example: references with their digests. */
  const pushed = new Map<string, string>();

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'chunked-push-examples-'));
    [engine, locked, open] = await Promise.all([
      sharedDocker({ version: 'trixie', store: 'containerd' }),
      startDockerRegistry({ auth: true }),
      startDockerRegistry(),
    ]);
    const client = { command: commandOf('docker-trixie', 'docker'), env: engine.env };
    await buildImage(client, BASE.amd64, { seed: 'examples', layers: [{ bytes: 20_000 }, { bytes: 300 }] });
    writeFileSync(join(folder, 'arm64.tar'), await tarOf('arm64/data', 20_000));
    await docker(engine, 'import', '--platform', 'linux/arm64', join(folder, 'arm64.tar'), BASE.arm64);
    writeTools(join(folder, 'bin'));
  });

  afterAll(async () => {
    for (const name of [...tagged, ...Object.values(BASE)]) await docker(engine, 'image', 'rm', '--force', name);
    await Promise.all([locked?.stop(), open?.stop()]);
    rmSync(folder, { recursive: true });
  });

  /** What stands for `docker compose` and a deployment, which pulls by digest. */
  const writeTools = (bin: string): void => {
    const write = (path: string, script: string) => writeFileSync(path, `#!/bin/sh\n${script}\n`, { mode: 0o755 });
    mkdirSync(bin);
    mkdirSync(join(folder, 'work'));
    const images = `printf '%s\\n' "${locked.host}/team/api:$TAG" postgres:18 "${locked.host}/team/web:$TAG"`;
    write(
      join(bin, 'docker'),
      `case "$*" in "compose build") ;; "compose config --images") ${images} ;; *) exit 1 ;; esac`,
    );
    const skopeo = `exec ${commandOf('skopeo', 'skopeo')} inspect --raw --tls-verify=false`;
    const login = `--creds ${REGISTRY_LOGIN.username}:${REGISTRY_LOGIN.password}`;
    write(
      join(folder, 'work/deploy.sh'),
      `case "$1" in *@sha256:*) ;; *) exit 1 ;; esac\n${skopeo} ${login} "docker://$1"`,
    );
    const cli = join(process.env[ACTION_VARIABLE] ?? root, 'dist/cli.js');
    write(join(bin, 'npx'), `shift\nexec ${process.execPath} ${cli} "$@"`);
  };

  const tagged = new Set<string>();
  const tag = async (names: string, architecture: keyof typeof BASE = 'amd64'): Promise<Outputs> => {
    for (const name of names.split(/[\n,]/)) {
      await docker(engine, 'tag', BASE[architecture], name);
      tagged.add(name);
    }
    return {};
  };

  const build = async ({ inputs, runsOn }: UsedAction): Promise<Outputs> => {
    if (inputs.load === 'true') return tag(inputs.tags!, runsOn.endsWith('-arm') ? 'arm64' : 'amd64');
    const layout = new LayoutFolder(join(runner.workspace, /dest=(\w+)/.exec(inputs.outputs!)![1]!));
    const manifests = [await layout.image('amd64'), await layout.image('arm64')];
    layout.close(layout.document(MediaType.ociIndex, { manifests }));
    return {};
  };

  /** docker/login-action runs `docker login`. */
  const login = async ({ inputs }: UsedAction): Promise<Outputs> => {
    const file = join(runner.home, '.docker/config.json');
    mkdirSync(join(runner.home, '.docker'), { recursive: true });
    const before = readdirSync(join(runner.home, '.docker')).length > 0 ? JSON.parse(readFileSync(file, 'utf8')) : {};
    const auth = Buffer.from(`${inputs.username}:${inputs.password}`).toString('base64');
    writeFileSync(file, JSON.stringify({ auths: { ...before.auths, [inputs.registry!]: { auth } } }));
    return {};
  };

  const push = async ({ inputs }: UsedAction): Promise<Outputs> => {
    const env = { DOCKER_HOST: engine.host, PATH: engine.env.PATH };
    const result = await runAction({ inputs: { ...inputs, engine: 'docker' }, env, runner });
    expect(result.errors).toEqual([]);
    expect(result.exitCode).toBe(0);
    for (const [reference, digest] of Object.entries(JSON.parse(result.outputs.digests!) as Outputs)) {
      pushed.set(reference, digest);
      expect(digestOf(Buffer.from(await raw(reference)))).toBe(digest);
    }
    return result.outputs;
  };

  const metadata = async ({ inputs, env }: UsedAction): Promise<Outputs> => ({
    tags: `${inputs.images}:sha-0123456\n${inputs.images}:latest`,
    labels: 'org.opencontainers.image.version=1.2',
    annotations: `${env.DOCKER_METADATA_ANNOTATIONS_LEVELS ?? 'manifest'}:org.opencontainers.image.version=1.2`,
  });

  const bake = async (): Promise<Outputs> => {
    const names = ['api', 'web'].map((name) => `${locked.host}/team/${name}:baked`);
    await tag(names.join());
    // As buildx writes it, warnings beside the targets.
    const targets = { 'buildx.build.warnings': [], api: { 'image.name': names[0] }, web: { 'image.name': names[1] } };
    return { metadata: JSON.stringify(targets) };
  };

  /** actions/attest names what the registry serves. */
  const attest = async ({ inputs }: UsedAction): Promise<Outputs> => {
    const subject = `${inputs['subject-name']}@${inputs['subject-digest']}`;
    expect(digestOf(Buffer.from(await raw(subject)))).toBe(inputs['subject-digest']);
    return {};
  };

  const nothing = async (): Promise<Outputs> => ({});
  const ACTIONS: Readonly<Record<string, (step: UsedAction) => Promise<Outputs>>> = {
    'org/chunked-push': push,
    'actions/attest': attest,
    'actions/checkout': nothing,
    'aws-actions/amazon-ecr-login': async () => ({ registry: open.host }),
    'aws-actions/configure-aws-credentials': nothing,
    'docker/bake-action': bake,
    'docker/build-push-action': build,
    'docker/login-action': login,
    'docker/metadata-action': metadata,
    'docker/setup-buildx-action': nothing,
    'docker/setup-qemu-action': nothing,
  };

  const raw = (reference: string): Promise<string> => {
    const credentials = ['--creds', `${REGISTRY_LOGIN.username}:${REGISTRY_LOGIN.password}`];
    const source = `docker://${reference}`;
    const args = ['inspect', '--raw', '--tls-verify=false', ...credentials, source];
    return run(commandOf('skopeo', 'skopeo'), args, { env: { PATH: process.env.PATH, HOME: folder } });
  };

  const platformsOf = async (reference: string) =>
    (JSON.parse(await raw(reference)) as Index).manifests.map(({ platform }) => platform?.architecture);

  /** With the tests' registries in place of those of the example. */
  const textOf = (name: string): string =>
    readFileSync(join(root, 'examples', name), 'utf8')
      .replaceAll('registry\\.example\\.com', locked.host.replaceAll('.', '\\.'))
      .replaceAll('registry.example.com', locked.host)
      .replaceAll(/ghcr\.io|registry\.example\.workers\.dev/g, open.host);

  /** The image that is promoted, as an earlier workflow has pushed it. */
  const haveTested = async (reference: string): Promise<void> => {
    await docker(engine, 'tag', BASE.amd64, reference);
    tagged.add(reference);
    await docker(engine, 'push', '--quiet', reference);
  };

  const toolEnv = () => ({ PATH: `${join(folder, 'bin')}:${process.env.PATH}`, HOME: folder });

  it.each(EXAMPLES.filter((name) => !name.startsWith('gitlab')))('%s does what it says', async (name) => {
    pushed.clear();
    runner = freshRunner();
    if (name === 'promote.yml') await haveTested(`${open.host}/team/app:sha-abc1234`);
    try {
      await runWorkflow(textOf(name), {
        inputs: { sha: 'abc1234', version: '1.2' },
        github: { sha: '0123456789abcdef', run_id: '42', repository: 'team/app', actor: 'octocat' },
        secrets: {
          GITHUB_TOKEN: 'token',
          REGISTRY_USER: REGISTRY_LOGIN.username,
          REGISTRY_PASSWORD: REGISTRY_LOGIN.password,
        },
        folder: join(folder, 'work'),
        env: toolEnv(),
        uses: async (step) => {
          // The images that Compose would have built.
          if (name === 'compose.yml')
            for (const app of ['api', 'web']) await tag(`${locked.host}/team/${app}:${step.env.TAG}`);
          return ACTIONS[step.action]!(step);
        },
      });
    } finally {
      runner.remove();
    }
    expect(pushed.size).toBeGreaterThan(0);
    if (name === 'merge.yml') {
      expect(await platformsOf(`${locked.host}/team/app:latest`)).toEqual(['amd64', 'arm64']);
      const { annotations } = JSON.parse(await raw(`${locked.host}/team/app:latest`)) as Index;
      expect(annotations).toEqual({ 'org.opencontainers.image.version': '1.2' });
    }
  });

  it.each(EXAMPLES.filter((name) => name.startsWith('gitlab')))('%s does what it says', async (name) => {
    const jobs = parse(textOf(name)) as Record<string, { parallel?: { matrix: Outputs[] }; script?: string[] }>;
    for (const architecture of ['amd64', 'arm64']) {
      const file = join(folder, 'work', `image-${architecture}.tar`);
      const layout = new LayoutFolder(join(folder, `${name}-${architecture}`));
      layout.close(await layout.image(architecture));
      const tar = spawnSync('tar', ['-cf', file, '-C', layout.path, '.']);
      expect(tar.status).toBe(0);
      writeFileSync(join(folder, 'work/image.tar'), readFileSync(file));
    }
    const image = `${locked.host}/group/${name.replace('.yml', '')}`;
    const variables = {
      ...toolEnv(),
      CI_REGISTRY_USER: REGISTRY_LOGIN.username,
      CI_REGISTRY_PASSWORD: REGISTRY_LOGIN.password,
      CI_REGISTRY_IMAGE: image,
      CI_PIPELINE_ID: '42',
      CI_COMMIT_SHORT_SHA: '01234567',
    };
    for (const { script = [], parallel } of Object.values(jobs)) {
      for (const combination of parallel?.matrix ?? [{}]) {
        for (const line of script) {
          const env = { ...variables, ...combination };
          const { status, stderr } = spawnSync('bash', ['-e', '-c', line], {
            cwd: join(folder, 'work'),
            env,
            encoding: 'utf8',
          });
          expect(status, stderr).toBe(0);
        }
      }
    }
    const root = JSON.parse(await raw(`${image}:01234567`)) as Partial<Index>;
    if (name === 'gitlab-ci-merge.yml') expect(root.manifests).toHaveLength(2);
    else expect(root).toHaveProperty('config');
  });
});
