/**
 * How often a push waits for an answer before it can go on, counted and not timed: real engines, TLS, and a relay that delivers in
 * rounds (TCP is one, TLS another). As the user of a hosted runner, who reads the store by a helper, and as root.
 */
import { chmodSync, copyFileSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { answeredBy, inRounds, type Rounds } from '../registry/helpers/rounds.ts';
import { Activity } from '../support/activity.ts';
import { buildImage } from '../support/images.ts';
import { type DockerAddress, docker, dockerPull, partOfDocker } from '../support/real/docker.ts';
import { type HostedUser, hostedUser } from '../support/real/hosted-user.ts';
import { commandOf } from '../support/real/parts.ts';
import { isRoot, privateFolder, removeFolder } from '../support/real/processes.ts';
import { describeWith, sharedDocker } from '../support/real/suite.ts';
import { type Registry, startRegistry } from '../support/registry/server.ts';
import { runAction } from '../support/runner.ts';

const fixture = (name: string): string => fileURLToPath(new URL(`../fixtures/tls/${name}`, import.meta.url));
const TLS = { key: readFileSync(fixture('server.key'), 'utf8'), cert: readFileSync(fixture('server.pem'), 'utf8') };

const LOGIN = { username: 'pusher', password: 'round-trips' } as const;

/** How long the engine is waited for once the action itself has gone quiet, ms: other tests use the engine too. */
const ENGINE_LIMIT = 1_000;

/** The last of six layers is another one in the second version. */
const LAYERS = [600_000, 60_000, 50_000, 40_000, 30_000, 20_000];
const imageOf = (version: number) => `e2e.example/round-trips/app:${version}`;

async function build(engine: DockerAddress): Promise<void> {
  const command = commandOf(partOfDocker(engine.version), 'docker');
  for (const version of [1, 2]) {
    const layers = LAYERS.map((bytes, at) => ({ bytes: at === LAYERS.length - 1 ? bytes + version : bytes }));
    await buildImage({ command, env: engine.env }, imageOf(version), { seed: 'round trips', layers });
  }
}

/** By a pull: so that the containerd image store has gzip layers. */
async function bring(from: DockerAddress, to: DockerAddress): Promise<void> {
  const registry = await startRegistry();
  for (const version of [1, 2]) {
    const reference = `${registry.host}/round-trips:${version}`;
    await docker(from, 'tag', imageOf(version), reference);
    await docker(from, 'push', '--quiet', reference);
    await dockerPull(to, reference);
    await docker(to, 'tag', reference, imageOf(version));
    await Promise.all([from, to].map((engine) => docker(engine, 'image', 'rm', reference)));
  }
  await registry.close();
}

/** What the registry has before, and what goes where. */
const PUSHES = [
  { name: 'cold', version: 1, tag: 'main' },
  { name: 'unchanged', version: 1, tag: 'main' },
  { name: 'new tag', version: 1, tag: 'next' },
  { name: 'changed', version: 2, tag: 'main' },
] as const;

type Counts = Readonly<Record<(typeof PUSHES)[number]['name'], number>>;

/** The most that each may take. */
const MOST: Readonly<Record<'containerd' | 'overlay2', Counts>> = {
  containerd: { cold: 7, unchanged: 4, 'new tag': 5, changed: 7 },
  overlay2: { cold: 7, unchanged: 4, 'new tag': 5, changed: 7 },
};

for (const store of ['containerd', 'overlay2'] as const) {
  describeWith(['docker', 'docker-trixie', 'sudo'], `round trips of a push from ${store}`, () => {
    let engine: DockerAddress;
    let user: HostedUser;
    let folder: string;

    beforeAll(async () => {
      const builder = await sharedDocker({ version: 'debian', store: 'overlay2' });
      engine = store === 'overlay2' ? builder : await sharedDocker({ version: 'trixie', store });
      await build(builder);
      if (engine !== builder) await bring(builder, engine);
      user = await hostedUser({ docker: engine });
      folder = privateFolder('round-trips');
      chmodSync(folder, 0o755);
      copyFileSync(fixture('ca.pem'), join(folder, 'ca.pem'));
    }, 300_000);

    afterAll(async () => {
      user?.remove();
      if (folder) removeFolder(folder);
      await docker(engine, 'image', 'rm', '--force', imageOf(1), imageOf(2));
    });

    /** What goes where, as whom. */
    interface Push {
      readonly tags: string;
      readonly version: number;
      readonly as: string;
      readonly login: Readonly<Record<string, string>>;
      /** Gets to know the action's process. */
      readonly activity: Activity;
    }

    const push = async (registry: Registry, { tags, version, as, login, activity }: Push) => {
      const run = await runAction({
        inputs: {
          image: imageOf(version),
          tags,
          engine: 'docker',
          cache: 'false',
          'ca-file': join(folder, 'ca.pem'),
          ...login,
        },
        env: { RUNNER_ENVIRONMENT: 'github-hosted', ...(as === 'root' ? engine.env : {}) },
        ...(as === 'root' ? {} : { user }),
        onStart: (pid) => activity.add(pid),
      });
      expect(run.errors).toEqual([]);
      expect(registry.openSessions()).toBe(0);
    };

    /** `tokens`: where the token server is, if there is one. */
    const measure = async (as: string, tokens?: 'the same host' | 'another host') => {
      let tokenServer: Rounds | undefined;
      const bearer = {
        ...LOGIN,
        ...(tokens === 'another host' ? { tokenServer: () => `https://${tokenServer?.host}` } : {}),
      };
      const registry = await startRegistry({ tls: TLS, ...(tokens === undefined ? {} : { auth: { bearer } }) });
      const counts: Record<string, number> = {};
      try {
        for (const { name, version, tag } of PUSHES) {
          const activity = new Activity();
          const itsEngine = new Activity(engine.pid);
          const clientQuiet = async () => {
            const [, wasEngineQuiet] = await Promise.all([activity.quiet(), itsEngine.quiet(ENGINE_LIMIT)]);
            // What the engine did last may have woken the action.
            if (!wasEngineQuiet) await activity.quiet();
          };
          const sides = { clientQuiet, serverQuiet: answeredBy(registry) };
          const rounds = await inRounds(registry.host, sides);
          if (tokens === 'another host') tokenServer = await inRounds(registry.host, sides);
          registry.requests.length = 0;
          const tokensBefore = registry.auth.tokenRequests;
          const login = tokens === undefined ? {} : LOGIN;
          await push(registry, { tags: `${rounds.host}/team/app:${tag}`, version, as, login, activity });
          counts[name] = rounds.count + (tokenServer?.count ?? 0);
          // One for all that the push asks.
          expect(registry.auth.tokenRequests - tokensBefore, name).toBe(tokens === undefined ? 0 : 1);
          expect(tokenServer?.connections ?? 1, name).toBe(1);
          expect(rounds.connections, name).toBeLessThanOrEqual(6);
          const opened = registry.requests.filter(({ step }) => step === 'upload-post').length;
          if (name === 'unchanged' || name === 'new tag') expect(opened, name).toBe(0);
        }
      } finally {
        await registry.close();
      }
      return counts as Counts;
    };

    const users = isRoot() ? ['the user of a hosted runner', 'root'] : ['the user of a hosted runner'];
    it.each(users)(
      'as %s',
      async (as) => {
        const counts = await measure(as);
        for (const { name } of PUSHES) expect(counts[name], name).toBeLessThanOrEqual(MOST[store][name]);
      },
      300_000,
    );

    it.each([
      ['the same host', 2],
      // Its TCP and TLS besides.
      ['another host', 4],
    ] as const)(
      'with a token server on %s: %i more, and one token',
      async (tokens, more) => {
        const counts = await measure(users[0]!, tokens);
        for (const { name } of PUSHES) expect(counts[name], name).toBeLessThanOrEqual(MOST[store][name] + more);
      },
      300_000,
    );
  });
}
