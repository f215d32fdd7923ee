/** No secret in anything that a failed push leaves behind, at the highest log level, whatever a registry repeats. */
import { execFile } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  answerWith,
  cutAfter,
  type Fault,
  gatewayError,
  outOfRange,
  registryError,
  resetBefore,
  tooLarge,
} from '../support/fault-proxy/faults.ts';
import { startFaultProxy } from '../support/fault-proxy/proxy.ts';
import type { FaultRule } from '../support/fault-proxy/rules.ts';
import { answer, refusal } from '../support/registry/answer.ts';
import { TEST_CREDENTIALS } from '../support/registry/profiles.ts';
import { type Registry, startRegistry } from '../support/registry/server.ts';
import { ACTION_VARIABLE, type ActionRun, freshRunner, type Runner, runAction } from '../support/runner.ts';
import { type ImageFile, imageFile, traces } from './leftovers.ts';

const { username, password } = TEST_CREDENTIALS;
const BASIC = btoa(`${username}:${password}`);
const REFRESH_TOKEN = 'refresh-token-that-nobody-may-see';
const SIGNATURE = 'X-Amz-Signature-0123456789abcdef';

/** Repeats in its own words what it was sent, as debugging proxies do. */
const repeats = refusal(400, 'DENIED', `you sent Authorization: Basic ${BASIC}, that is ${username}:${password}`);

const signed = (status: number): Fault =>
  answerWith(
    answer(status, { Location: `/v2/team/app/blobs/uploads/1?sig=${SIGNATURE}&X-Amz-Credential=${SIGNATURE}` }),
  );

const always = (step: FaultRule['step'], fault: Fault): FaultRule => ({ step, fault, times: 99 });

const FAILURES: Readonly<Record<string, FaultRule>> = {
  'a token server that repeats the credentials': always('token', answerWith(repeats)),
  'a token server that is down': always('token', gatewayError(502)),
  'a registry that repeats the credentials': always('upload-post', answerWith(repeats)),
  'a signed upload URL that leads nowhere': always('upload-post', signed(202)),
  'a chunk that is always cut': always('upload-patch', cutAfter(0)),
  'a chunk that is always too large': always('upload-patch', tooLarge()),
  'a chunk that is out of range': always('upload-patch', outOfRange(true)),
  'a status that is always reset': always(['upload-patch', 'upload-get'], resetBefore),
  'a close that fails': always('upload-put', registryError(400, 'DIGEST_INVALID', 'no')),
  'a manifest that is refused': always('manifest-put', registryError(400, 'MANIFEST_INVALID', 'no')),
};

/** All that was secret in this run: what the test knows, and what the registry was shown. */
function secretsOf({ requests }: Registry): string[] {
  const shown = requests.flatMap(({ headers, query }) => [
    headers.authorization?.split(' ')[1],
    query._state,
    query._stateHash,
    query.sig,
  ]);
  const all = [password, BASIC, REFRESH_TOKEN, SIGNATURE, ...shown];
  return [...new Set(all.filter((secret) => secret !== undefined && secret !== ''))] as string[];
}

describe.concurrent('no secret is written anywhere', () => {
  let image: ImageFile;

  beforeAll(async () => {
    image = await imageFile({ seed: 'fault secrets', layers: [{ bytes: 500_000, content: 'random' }] });
  });

  afterAll(() => image?.remove());

  /** Pushes through a proxy and looks for secrets in all that is left; gives what the run itself made of it. */
  async function pushAndSearch<T>(
    rule: FaultRule | undefined,
    push: (host: string, runner: Runner) => Promise<{ run: T; texts: ReadonlyMap<string, string> }>,
  ): Promise<T> {
    const bearer = { username, password, refreshToken: REFRESH_TOKEN, lifetimeSeconds: 60 };
    const registry = await startRegistry({ profile: 'distribution3', auth: { bearer } });
    const proxy = await startFaultProxy({ target: registry.url });
    if (rule !== undefined) proxy.faults.add(rule);
    const runner = freshRunner();
    try {
      const { run, texts } = await push(proxy.host, runner);
      const secrets = secretsOf(registry);
      expect(registry.requests.length).toBeGreaterThan(0);
      const found = [...texts].flatMap(([place, text]) =>
        secrets.filter((secret) => text.includes(secret)).map((secret) => `${secret} in ${place}`),
      );
      expect(found).toEqual([]);
      return run;
    } finally {
      runner.remove();
      await proxy.close();
      await registry.close();
    }
  }

  const inputs = (host: string) => ({
    image: image.source,
    tags: `${host}/team/app:1`,
    'chunk-size': '200KB',
    'max-retries': '1',
    'max-wait': '2s',
    username,
    password,
  });

  const byAction = async (
    host: string,
    runner: Runner,
  ): Promise<{ run: ActionRun; texts: ReadonlyMap<string, string> }> => {
    const env = { RUNNER_DEBUG: '1', ACTIONS_STEP_DEBUG: 'true' };
    const run = await runAction({ inputs: inputs(host), env, runner });
    return { run, texts: traces(run, runner) };
  };

  it.each(Object.entries(FAILURES))('%s', async (_, rule) => {
    const run = await pushAndSearch(rule, byAction);
    expect(run.exitCode).toBe(1);
    expect(run.errors).toHaveLength(1);
  });

  it('an identity token in the Docker config, its push and its failure', async () => {
    for (const [rule, exitCode] of [
      [undefined, 0],
      [always('manifest-put', repeatsToken), 1],
    ] as const) {
      const run = await pushAndSearch(rule, async (host, runner) => {
        const config = join(runner.home, '.docker');
        mkdirSync(config);
        const auths = { [host]: { auth: btoa('00000000-0000-0000-0000-000000000000:'), identitytoken: REFRESH_TOKEN } };
        writeFileSync(join(config, 'config.json'), JSON.stringify({ auths }));
        const { username: _, password: __, ...rest } = inputs(host);
        const result = await runAction({ inputs: rest, env: { RUNNER_DEBUG: '1' }, runner });
        const texts = new Map([...traces(result, runner)].filter(([place]) => !place.startsWith(config)));
        return { run: result, texts };
      });
      expect(run.exitCode).toBe(exitCode);
    }
  });

  it.each([...Object.entries(FAILURES).slice(0, 4), ['nothing', undefined] as const])(
    'the command line with --verbose: %s',
    async (_, rule) => {
      const code = await pushAndSearch(rule, async (host, runner) => {
        const result = await commandLine(host, runner);
        return { run: result.code, texts: new Map([['output', result.output]]) };
      });
      expect(code).toBe(rule === undefined ? 0 : 1);
    },
  );

  /** Runs dist/cli.js as a user would. */
  const commandLine = (host: string, runner: Runner): Promise<{ code: number | null; output: string }> =>
    new Promise((resolve) => {
      const script = join(process.env[ACTION_VARIABLE] ?? '.', 'dist/cli.js');
      const flags = [
        '--verbose',
        '--username',
        username,
        '--password-stdin',
        '--chunk-size',
        '200KB',
        '--max-retries',
        '1',
        '--max-wait',
        '2s',
      ];
      const args = [script, image.source, '--to', `${host}/team/app:1`, ...flags, '--json'];
      const env = { PATH: process.env.PATH, HOME: runner.home };
      const child = execFile(process.execPath, args, { env }, (_error, stdout, stderr) => {
        resolve({ code: child.exitCode, output: stdout + stderr });
      });
      child.stdin?.end(`${password}\n`);
    });
});

/** A registry that repeats an identity token. */
const repeatsToken = answerWith(refusal(400, 'DENIED', `the token ${REFRESH_TOKEN} may not push`));
