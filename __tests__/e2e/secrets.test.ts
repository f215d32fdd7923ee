import { chmodSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { writeDockerArchive } from '../support/images.ts';
import { TEST_CREDENTIALS } from '../support/registry/profiles.ts';
import { type Registry, startRegistry } from '../support/registry/server.ts';
import { type ActionRun, freshRunner, type Runner, runAction } from '../support/runner.ts';

const MIB = 1024 * 1024;
const { username, password } = TEST_CREDENTIALS;

/** Everything that a run leaves behind for others to read, by where it is. */
const traces = (run: ActionRun, runner: Runner): ReadonlyMap<string, string> => {
  const lines = run.log.split('\n').filter((line) => !line.startsWith('::add-mask::'));
  const files = readdirSync(runner.temp, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  return new Map([
    ['log', lines.join('\n')],
    ['summary', run.summary],
    ['outputs', JSON.stringify(run.outputs)],
    ['state', JSON.stringify(run.state)],
    ...files.map(({ parentPath, name }) => {
      const path = join(parentPath, name);
      return [path, readFileSync(path, 'latin1')] as const;
    }),
  ]);
};

/** What the registry was shown that nobody else may see: Authorization values, and the state in upload URLs. */
const shown = ({ requests }: Registry): readonly string[] => [
  ...requests.flatMap(({ headers }) => headers.authorization?.split(' ')[1] ?? []),
  ...requests.flatMap(({ query }) => [query._state, query._stateHash].filter((value) => value !== undefined)),
];

describe('no secret is written anywhere', () => {
  let folder: string;
  let image: string;

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'chunked-push-secrets-'));
    await writeDockerArchive(join(folder, 'image.tar'), 'a/b:1', {
      seed: 'secrets',
      layers: [{ bytes: 3 * MIB, content: 'random' }, { bytes: 200_000 }],
    });
    image = `docker-archive:${join(folder, 'image.tar')}`;
  });

  afterAll(() => rmSync(folder, { recursive: true }));

  /** Pushes at the highest log level, and looks for what was secret in all that the run leaves. */
  const pushAndSearch = async (
    options: Parameters<typeof startRegistry>[0],
    inputs: Readonly<Record<string, string>>,
    prepare: (runner: Runner, registry: Registry) => Readonly<Record<string, string>> = () => ({}),
  ): Promise<ActionRun> => {
    const registry = await startRegistry(options);
    const runner = freshRunner();
    try {
      const env = {
        RUNNER_DEBUG: '1',
        ACTIONS_STEP_DEBUG: 'true',
        ...prepare(runner, registry),
      };
      const run = await runAction({
        inputs: { image, tags: `${registry.host}/team/app:1`, 'chunk-size': '1MiB', ...inputs },
        env,
        runner,
      });
      const secrets = [password, inputs.password, btoa(`${username}:${password}`), ...shown(registry)];
      const wanted = [...new Set(secrets)].filter((secret) => secret !== undefined && secret !== '') as string[];
      expect(wanted.length).toBeGreaterThanOrEqual(2);
      for (const [place, text] of traces(run, runner)) {
        for (const secret of wanted) expect(text.includes(secret), `${secret} in ${place}`).toBe(false);
      }
      return run;
    } finally {
      runner.remove();
      await registry.close();
    }
  };

  it('with Basic auth', async () => {
    const run = await pushAndSearch({ auth: { basic: { username, password } } }, { username, password });
    expect(run.exitCode).toBe(0);
  });

  it('with bearer tokens, which are renewed on the way, and signed upload URLs', async () => {
    const options = { profile: 'distribution3', auth: { bearer: { username, password, lifetimeSeconds: 2 } } } as const;
    const run = await pushAndSearch(options, { username, password });
    expect(run.exitCode).toBe(0);
  });

  it('with a hash of the state in upload URLs', async () => {
    const options = {
      profile: 'serverless',
      minChunk: MIB,
      maxChunk: MIB,
      auth: { basic: { username, password } },
    } as const;
    const run = await pushAndSearch(options, { username, password });
    expect(run.exitCode).toBe(0);
  });

  it('with a wrong password', async () => {
    const run = await pushAndSearch(
      { auth: { basic: { username, password } } },
      { username, password: 'not-the-password' },
    );
    expect(run.exitCode).toBe(1);
  });

  it('with the login that docker login left', async () => {
    const run = await pushAndSearch({ auth: { basic: { username, password } } }, {}, ({ home }, { host }) => {
      mkdirSync(join(home, '.docker'));
      const auths = { [host]: { auth: btoa(`${username}:${password}`) } };
      writeFileSync(join(home, '.docker/config.json'), JSON.stringify({ auths }));
      return {};
    });
    expect(run.exitCode).toBe(0);
  });

  it('with a credential helper', async () => {
    const run = await pushAndSearch({ auth: { basic: { username, password } } }, {}, ({ home }, { host }) => {
      mkdirSync(join(home, 'config'));
      writeFileSync(join(home, 'config/config.json'), JSON.stringify({ credHelpers: { [host]: 'e2e' } }));
      const helper = join(home, 'docker-credential-e2e');
      const answer = JSON.stringify({ ServerURL: host, Username: username, Secret: password });
      writeFileSync(helper, `#!/bin/sh\n[ "$1" = get ] && [ "$(cat)" = '${host}' ] && echo '${answer}'\n`);
      chmodSync(helper, 0o755);
      return { DOCKER_CONFIG: join(home, 'config'), PATH: `${home}:${process.env.PATH}` };
    });
    expect(run.exitCode).toBe(0);
  });
});
