/** A registry that is away for a while in the middle of a push, and a load balancer that ends long requests: for us and other tools. */
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type IncomingMessage, request, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type ImageRecipe, writeDockerArchive } from '../../__tests__/support/images.ts';
import { type Docker, docker, startDocker } from '../../__tests__/support/real/docker.ts';
import { startDockerRegistry } from '../../__tests__/support/real/registry.ts';
import { setupTools } from '../bench/tools.ts';
import { byAction, byEngine, bySkopeo, NAME, type Tool } from './tools.ts';

/** One push of one tool. */
export interface OutageRun {
  readonly what: string;
  readonly tool: string;
  readonly seconds: number;
  readonly failed?: string;
}

/** Bytes of the layer, and bytes a second that go through to the registry: a layer takes longer than a request may last. */
export const OUTAGE_LAYER = 40_000_000;
export const OUTAGE_SPEED = 6_000_000;

/** The registry goes away when this much of the layer has come. */
const AWAY_AT = 20_000_000;

interface Trouble {
  /** Seconds for which no connection is taken, from the middle of the layer on. */
  readonly away?: number;
  /** Seconds after which a request is ended, with 504 or a reset. */
  readonly limit?: number;
  readonly answers?: boolean;
}

const TROUBLES: Readonly<Record<string, Trouble>> = {
  'no connections for 5 s': { away: 5 },
  'no connections for 20 s': { away: 20 },
  'no connections for 60 s': { away: 60 },
  'each request reset after 3 s': { limit: 3 },
  'each request answered with 504 after 3 s': { limit: 3, answers: true },
};

/** What stands before the registry. */
class Front {
  readonly #server = createServer((asked, response) => this.#forward(asked, response));
  readonly #target: URL;
  readonly #trouble: Trouble;
  #port = 0;
  #bytes = 0;
  #wasAway = false;

  constructor(target: string, trouble: Trouble) {
    this.#target = new URL(`http://${target}`);
    this.#trouble = trouble;
  }

  /** Resolves to `127.0.0.1:PORT`. */
  async start(): Promise<string> {
    this.#server.listen(this.#port, '127.0.0.1');
    await once(this.#server, 'listening');
    this.#port = (this.#server.address() as AddressInfo).port;
    return `127.0.0.1:${this.#port}`;
  }

  stop(): void {
    this.#server.closeAllConnections();
    this.#server.close();
  }

  #forward(asked: IncomingMessage, response: ServerResponse): void {
    const { hostname, port } = this.#target;
    const { method, url: path, headers } = asked;
    const { limit } = this.#trouble;
    const forwarded = request({ hostname, port, method, path, headers }, (answer) => {
      clearTimeout(timer);
      response.writeHead(answer.statusCode ?? 502, answer.headers);
      answer.pipe(response);
    });
    const timer =
      limit === undefined ? undefined : setTimeout(() => this.#end(asked, response, forwarded), limit * 1000);
    forwarded.on('error', () => asked.socket.destroy());
    asked.on('error', () => forwarded.destroy()).on('close', () => clearTimeout(timer));
    asked.on('end', () => forwarded.end());
    asked.on('data', (piece: Buffer) => {
      forwarded.write(piece);
      asked.pause();
      setTimeout(() => asked.resume(), (piece.length / OUTAGE_SPEED) * 1000);
      this.#count(piece.length);
    });
  }

  #end(asked: IncomingMessage, response: ServerResponse, forwarded: ReturnType<typeof request>): void {
    forwarded.destroy();
    if (this.#trouble.answers !== true || response.headersSent) return void asked.socket.resetAndDestroy();
    response.writeHead(504, { connection: 'close' }).end('upstream request timeout');
  }

  #count(bytes: number): void {
    const { away } = this.#trouble;
    this.#bytes += bytes;
    if (away === undefined || this.#wasAway || this.#bytes < AWAY_AT) return;
    this.#wasAway = true;
    this.stop();
    setTimeout(() => void this.start(), away * 1000);
  }
}

async function measure(what: string, name: string, tool: Tool): Promise<OutageRun> {
  const registry = await startDockerRegistry();
  const front = new Front(registry.host, TROUBLES[what] ?? {});
  try {
    const { seconds, failed } = await tool(`${await front.start()}/faults/app:1`);
    return { what, tool: name, seconds, ...(failed && { failed }) };
  } finally {
    front.stop();
    await registry.stop();
  }
}

/** The engines whose `docker push` is measured: layers that are compressed while they are pushed, and layers that are ready. */
const ENGINES = {
  'docker push 20.10 (overlay2)': { version: 'debian', store: 'overlay2' },
  'docker push 26.1 (containerd)': { version: 'trixie', store: 'containerd' },
} as const;

/** Pushes the same image by every tool through every trouble, with the defaults of each (skopeo: `--retry-times 3`). */
export async function measureOutages(onRun: (run: OutageRun) => void): Promise<OutageRun[]> {
  await setupTools();
  const folder = mkdtempSync(join(tmpdir(), 'chunked-push-outages-'));
  const engines: Docker[] = [];
  const runs: OutageRun[] = [];
  try {
    const recipe: ImageRecipe = { seed: 'outages', layers: [{ bytes: OUTAGE_LAYER, content: 'random' }] };
    const archive = join(folder, 'image.tar');
    await writeDockerArchive(archive, NAME, recipe);
    const byDocker: Record<string, Tool> = {};
    for (const [name, options] of Object.entries(ENGINES)) {
      const engine = await startDocker(options);
      engines.push(engine);
      await docker(engine, 'load', '--quiet', '--input', archive);
      byDocker[name] = byEngine(engine);
    }
    const tools = {
      'chunked-push': byAction(archive, 'auto'),
      ...byDocker,
      'skopeo copy': bySkopeo(archive, 3),
    };
    for (const what of Object.keys(TROUBLES)) {
      for (const [name, tool] of Object.entries(tools)) {
        const measured = await measure(what, name, tool);
        runs.push(measured);
        onRun(measured);
      }
    }
    return runs;
  } finally {
    for (const engine of engines) await engine.stop();
    rmSync(folder, { recursive: true, force: true });
  }
}
