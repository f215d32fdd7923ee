/** 400 MiB of layers that are compressed already, from the containerd image store to docker-registry over TLS. */
import { type Docker, docker, partOfDocker, startDocker } from '../../__tests__/support/real/docker.ts';
import { commandOf } from '../../__tests__/support/real/parts.ts';
import { type DockerRegistry, startDockerRegistry } from '../../__tests__/support/real/registry.ts';
import { freshRunner, runAction } from '../../__tests__/support/runner.ts';
import { buildVersions, type ImageRecipe, nameOf } from './images.ts';
import { median } from './results.ts';
import { bringByPull, fixturePath } from './round-trips.ts';
import { runTool } from './tools.ts';

const MB = 1_000_000;

/** About 420 MB once they are compressed, one layer of 60 %. */
const LAYERS: ImageRecipe = { name: 'tls', layers: [590 * MB, 250 * MB, 100 * MB, 38 * MB, 2 * MB] };

/** Seconds of each round. */
export interface TlsRow {
  readonly tool: string;
  readonly seconds: readonly number[];
}

type Push = (image: string, reference: string, engine: Docker) => Promise<{ seconds: number; failed?: string }>;

const TOOLS: Readonly<Record<string, Push>> = {
  'docker push': async (image, reference, engine) => {
    await docker(engine, 'tag', image, reference);
    const client = commandOf(partOfDocker(engine.version), 'docker');
    return runTool([[client, 'push', '--quiet', reference]], engine.env);
  },
  'chunked-push': async (image, reference, engine) => {
    const runner = freshRunner();
    const inputs = { image, tags: reference, engine: 'docker', cache: 'false', 'ca-file': fixturePath('ca.pem') };
    try {
      const run = await runAction({ inputs, env: { RUNNER_ENVIRONMENT: 'github-hosted', ...engine.env }, runner });
      return { seconds: run.seconds, ...(run.exitCode === 0 ? {} : { failed: run.errors[0] ?? run.log.slice(-300) }) };
    } finally {
      runner.remove();
    }
  },
};

/** Pushes to an empty registry, `rounds` times with each tool, which take turns in going first. Throws an Error for a push that fails. */
export async function measureTls(rounds: number): Promise<readonly TlsRow[]> {
  // The engine trusts the registry's certificate by what it inherits.
  process.env.SSL_CERT_FILE = fixturePath('ca.pem');
  const builder = await startDocker({ version: 'debian', store: 'overlay2' });
  const engine = await startDocker({ version: 'trixie', store: 'containerd' });
  const seconds = new Map<string, number[]>(Object.keys(TOOLS).map((tool) => [tool, []]));
  try {
    await buildVersions(builder, LAYERS, ['v1']);
    await bringByPull(builder, engine, LAYERS, ['v1']);
    for (let round = 0; round < rounds; round++) {
      const order = Object.entries(TOOLS);
      for (const [tool, push] of round % 2 === 0 ? order : order.reverse()) {
        const registry = await startDockerRegistry({
          tls: { certificate: fixturePath('server.pem'), key: fixturePath('server.key') },
        });
        seconds.get(tool)?.push(await timed(tool, push, engine, registry));
      }
    }
  } finally {
    await Promise.all([builder.stop(), engine.stop()]);
  }
  return [...seconds].map(([tool, all]) => ({ tool, seconds: all }));
}

async function timed(tool: string, push: Push, engine: Docker, registry: DockerRegistry): Promise<number> {
  try {
    const told = await push(nameOf(LAYERS, 'v1'), `${registry.host}/team/app:main`, engine);
    if (told.failed !== undefined) throw new Error(`${tool}: ${told.failed}`);
    console.error(`  over TLS: ${told.seconds.toFixed(2).padStart(7)} s  ${tool}`);
    return told.seconds;
  } finally {
    await registry.stop();
  }
}

/** The table of docs/benchmarks.md. */
export function tlsTables(rows: readonly TlsRow[]): string[] {
  const [reference] = rows;
  if (reference === undefined) return [];
  const base = median(reference.seconds);
  const lines = rows.map(({ tool, seconds }) => {
    const middle = median(seconds);
    return `| ${tool} | ${middle.toFixed(2)} | ${(middle / base).toFixed(2)} | ${seconds.map((one) => one.toFixed(2)).join(', ')} |`;
  });
  const head = '| tool | seconds, median | to docker push | all rounds |\n|---|---|---|---|';
  return ['## Over TLS', TEXT, [head, ...lines].join('\n')];
}

const TEXT = `    npm run bench -- --only tls --rounds 5

About 400 MiB of gzip layers from the containerd image store of Docker 26.1 to an empty docker-registry 2.8 on loopback that speaks TLS.`;
