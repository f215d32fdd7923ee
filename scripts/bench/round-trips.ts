/**
 * How many round trips a push waits for: the same push over a wire of 100 and of 400 ms, TLS included. The seconds that the longer
 * wire adds, by the 0.3 s that it is longer, are round trips one after the other; what a machine computes falls out of the difference.
 */
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Docker, docker, dockerPull, partOfDocker, startDocker } from '../../__tests__/support/real/docker.ts';
import { type HostedUser, hostedUser } from '../../__tests__/support/real/hosted-user.ts';
import { commandOf } from '../../__tests__/support/real/parts.ts';
import { type Registry, startRegistry } from '../../__tests__/support/registry/server.ts';
import { freshRunner, runAction } from '../../__tests__/support/runner.ts';
import { buildVersions, type ImageRecipe, nameOf, type Version } from './images.ts';
import { median } from './results.ts';
import { runTool, skopeo } from './tools.ts';
import { startUplink, type Uplink } from './uplink.ts';

/** Milliseconds of the two wires. */
const WIRES = [100, 400] as const;
/** Fast enough that bytes cost nothing beside round trips: 10 Gbit/s. */
const BYTES_PER_SECOND = 1.25e9;

/** Six small layers; the last one of 20 kB is the one that changes. */
const SIX: ImageRecipe = { name: 'six-small', layers: [2_000_000, 60_000, 50_000, 40_000, 30_000, 20_000] };

/** What the registry has before the push, and under which tag it goes. */
export const SCENARIOS = ['cold', 'unchanged', 'new tag', 'changed'] as const;
export type Scenario = (typeof SCENARIOS)[number];
type Store = 'containerd' | 'overlay2';
type Auth = 'none' | 'token';

/** One row of the table: round trips by scenario. */
export interface RoundTripRow {
  readonly store: Store;
  readonly auth: Auth;
  readonly tool: string;
  readonly trips: Readonly<Partial<Record<Scenario, number>>>;
  /** Set where a push failed. */
  readonly failed?: string;
}

interface Wire {
  readonly roundTripMs: number;
  readonly uplink: Uplink;
}

interface Setting {
  readonly store: Store;
  readonly auth: Auth;
  readonly engine: Docker;
  readonly registry: Registry;
  readonly wires: readonly Wire[];
  readonly folder: string;
  readonly user: HostedUser;
}

type Push = (image: string, reference: string, setting: Setting) => Promise<{ seconds: number; failed?: string }>;

const LOGIN = { username: 'pusher', password: 'round-trips' } as const;

/** Measures both stores without and with a token server, `rounds` times each. Says how it goes on stderr. */
export async function measureRoundTrips(rounds: number): Promise<readonly RoundTripRow[]> {
  const rows: RoundTripRow[] = [];
  // containerd asks a token server on loopback only with a certificate that it trusts; engines inherit this.
  process.env.SSL_CERT_FILE = fixturePath('ca.pem');
  const builder = await startDocker({ version: 'debian', store: 'overlay2' });
  const containerd = await startDocker({ version: 'trixie', store: 'containerd' });
  try {
    await buildVersions(builder, SIX, ['v1', 'v2']);
    await bringByPull(builder, containerd, SIX);
    for (const [store, engine] of [['containerd', containerd] as const, ['overlay2', builder] as const]) {
      for (const auth of ['none', 'token'] as const) rows.push(...(await measureSetting(store, auth, engine, rounds)));
    }
  } finally {
    await Promise.all([builder.stop(), containerd.stop()]);
  }
  return rows;
}

/** By push and pull, so that the containerd image store has gzip layers as after a build, not the plain ones of `load`. */
export async function bringByPull(
  from: Docker,
  to: Docker,
  recipe: ImageRecipe,
  versions: readonly Version[] = ['v1', 'v2'],
): Promise<void> {
  const registry = await startRegistry();
  for (const version of versions) {
    const reference = `${registry.host}/bench:${version}`;
    await docker(from, 'tag', nameOf(recipe, version), reference);
    await docker(from, 'push', '--quiet', reference);
    await dockerPull(to, reference);
    await docker(to, 'tag', reference, nameOf(recipe, version));
    await Promise.all([from, to].map((engine) => docker(engine, 'image', 'rm', reference)));
  }
  await registry.close();
}

async function measureSetting(store: Store, auth: Auth, engine: Docker, rounds: number): Promise<RoundTripRow[]> {
  const tls = { key: fixture('server.key'), cert: fixture('server.pem') };
  const bearer = auth === 'token' ? { auth: { bearer: LOGIN } } : {};
  const registry = await startRegistry({ tls, ...bearer });
  const options = { target: registry.host, bytesPerSecond: BYTES_PER_SECOND, slowStart: false };
  const wires = await Promise.all(
    WIRES.map(async (roundTripMs) => ({ roundTripMs, uplink: await startUplink({ ...options, roundTripMs }) })),
  );
  const folder = mkdtempSync(join(tmpdir(), 'round-trips-'));
  chmodSync(folder, 0o755);
  writeFileSync(join(folder, 'ca.pem'), fixture('ca.pem'));
  logIn(folder, wires);
  const user = await hostedUser({ docker: engine });
  const setting: Setting = { store, auth, engine, registry, wires, folder, user };
  try {
    const rows: RoundTripRow[] = [];
    for (const [tool, push] of Object.entries(TOOLS)) {
      const row = await measureTool(tool, push, setting, rounds);
      console.error(`  ${store}, ${auth === 'token' ? 'token server' : 'no login'}: ${cells(row).join('  ')}`);
      rows.push(row);
    }
    return rows;
  } finally {
    user.remove();
    await Promise.all(wires.map(({ uplink }) => uplink.close()));
    await registry.close();
    rmSync(folder, { recursive: true, force: true });
  }
}

/** A certificate that Go's clients read as well. */
export const fixturePath = (name: string): string =>
  fileURLToPath(new URL(`../../__tests__/fixtures/tls/${name}`, import.meta.url));
const fixture = (name: string): string => readFileSync(fixturePath(name), 'utf8');

/** A Docker configuration that knows the password for both wires. */
function logIn(folder: string, wires: readonly Wire[]): void {
  const auth = Buffer.from(`${LOGIN.username}:${LOGIN.password}`).toString('base64');
  const auths = Object.fromEntries(wires.map(({ uplink }) => [uplink.host, { auth }]));
  mkdirSync(join(folder, 'docker'));
  writeFileSync(join(folder, 'docker/config.json'), JSON.stringify({ auths }));
}

async function measureTool(tool: string, push: Push, setting: Setting, rounds: number): Promise<RoundTripRow> {
  const { store, auth, registry, wires } = setting;
  const trips = new Map<Scenario, number[]>();
  for (let round = 0; round < rounds; round++) {
    const seconds = new Map<Scenario, number[]>();
    for (const { uplink } of wires) {
      await registry.reset();
      for (const scenario of SCENARIOS) {
        const version = scenario === 'changed' ? 'v2' : 'v1';
        const reference = `${uplink.host}/team/app:${scenario === 'new tag' ? 'next' : 'main'}`;
        const told = await push(nameOf(SIX, version), reference, setting);
        if (told.failed !== undefined) return { store, auth, tool, trips: {}, failed: `${scenario}: ${told.failed}` };
        seconds.set(scenario, [...(seconds.get(scenario) ?? []), told.seconds]);
      }
    }
    for (const [scenario, [short = 0, long = 0]] of seconds) {
      const count = (1000 * (long - short)) / (WIRES[1] - WIRES[0]);
      trips.set(scenario, [...(trips.get(scenario) ?? []), count]);
    }
  }
  return { store, auth, tool, trips: Object.fromEntries([...trips].map(([name, counts]) => [name, median(counts)])) };
}

const ours =
  (as: 'root' | 'hosted user'): Push =>
  async (image, reference, { engine, folder, user, auth }) => {
    const hosted = as === 'hosted user' ? user : undefined;
    const runner = freshRunner(hosted);
    try {
      const run = await runAction({
        inputs: {
          image,
          tags: reference,
          engine: 'docker',
          cache: 'false',
          'ca-file': join(folder, 'ca.pem'),
          ...(auth === 'token' ? LOGIN : {}),
        },
        env: { RUNNER_ENVIRONMENT: 'github-hosted', ...(hosted === undefined ? engine.env : {}) },
        runner,
        ...(hosted === undefined ? {} : { user: hosted }),
        timeout: 300_000,
      });
      return { seconds: run.seconds, ...(run.exitCode === 0 ? {} : { failed: run.errors[0] ?? run.log.slice(-300) }) };
    } finally {
      runner.remove();
    }
  };

const TOOLS: Readonly<Record<string, Push>> = {
  'docker push': async (image, reference, { engine, folder }) => {
    await docker(engine, 'tag', image, reference);
    const command = [commandOf(partOfDocker(engine.version), 'docker'), 'push', '--quiet', reference];
    return runTool([command], { ...engine.env, DOCKER_CONFIG: join(folder, 'docker') });
  },
  'skopeo copy docker-daemon:': async (image, reference, { engine, folder }) => {
    const from = ['--src-daemon-host', engine.host, `docker-daemon:${image}`];
    const flags = ['copy', '--quiet', '--insecure-policy', '--dest-tls-verify=false'];
    const login = ['--dest-authfile', join(folder, 'docker/config.json')];
    return runTool([[...skopeo(), ...flags, ...login, ...from, `docker://${reference}`]], engine.env);
  },
  'chunked-push, hosted runner': ours('hosted user'),
  'chunked-push, root': ours('root'),
};

const cells = ({ tool, trips, failed }: RoundTripRow): string[] =>
  failed === undefined
    ? [tool, ...SCENARIOS.map((name) => trips[name]?.toFixed(1) ?? '–')]
    : [tool, `fails: ${failed.split('\n')[0]?.slice(0, 160)}`];

/** The tables of docs/benchmarks.md. */
export function roundTripTables(rows: readonly RoundTripRow[]): string[] {
  if (rows.length === 0) return [];
  const groups = Map.groupBy(rows, ({ store, auth }) => `${store} ${auth}`);
  const tables = [...groups.values()].map((group) => {
    const [{ store, auth } = { store: '', auth: '' }] = group;
    const title = `### ${store === 'containerd' ? 'Docker 26.1, containerd image store' : 'Docker 20.10, overlay2'}, ${
      auth === 'token' ? 'with a token server on the same host' : 'no login'
    }`;
    const head = `| tool | ${SCENARIOS.join(' | ')} |\n|---|${'---|'.repeat(SCENARIOS.length)}`;
    return [title, [head, ...group.map((row) => `| ${cells(row).join(' | ')} |`)].join('\n')].join('\n\n');
  });
  return ['## Round trips', TEXT, ...tables];
}

const TEXT = `    npm run bench -- --only round-trips --rounds 3

Six small layers (one of 2 MB, the others of 20 to 60 kB), TLS, a wire with a round trip of 100 and then of 400 ms below TCP (connecting
costs one, TLS one more; no slow start); the numbers are the seconds that the longer wire adds, by 0.3. "Cold": the registry is empty.
"Unchanged": the same image under the same tag again. "New tag": under another one. "Changed": one small layer is another one. A hosted
runner's user has Docker's socket and \`sudo\` without a password, and no right to the engine's files.`;
