/**
 * `npm run pictures`: the pictures of README and docs, each from a real push of a made image to the test registry over a slow link:
 * the job's log, the summary as GitHub's own renderer (cmark-gfm) and a browser (chromium) show it, the bars of the terminal.
 */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { startFaultProxy } from '../__tests__/support/fault-proxy/proxy.ts';
import { type ImageRecipe, writeDockerArchive } from '../__tests__/support/images.ts';
import { startRegistry } from '../__tests__/support/registry/server.ts';
import { runAction } from '../__tests__/support/runner.ts';
import { logLines } from './pictures/log.ts';
import { recordTerminal } from './pictures/record.ts';
import { screenshots } from './pictures/summary.ts';
import { animation, stillImage } from './pictures/svg.ts';

const MB = 1_000_000;
const OUT = fileURLToPath(new URL('../docs/pictures/', import.meta.url));

/** What stands in the pictures for 127.0.0.1 and its port. */
const SHOWN_HOST = 'registry.example.com';

const STEPS = [
  'ADD rootfs.tar.xz / # buildkit',
  'RUN /bin/sh -c apt-get update && apt-get install -y --no-install-recommends python3 # buildkit',
  'RUN /bin/sh -c pip install --no-cache-dir -r requirements.txt # buildkit',
  'COPY models/ /models/ # buildkit',
  'COPY . /app # buildkit',
];

/** Two versions of an image: the second has another last layer but one, and shares those beneath. */
const recipe = (version: number): ImageRecipe => ({
  seed: 'pictures',
  steps: STEPS,
  layers: [
    { bytes: 14 * MB, files: 400 },
    { bytes: 20 * MB, files: 100 },
    { bytes: 17 * MB, files: 60 },
    { bytes: 40 * MB + version, content: 'random', files: 4 },
    { bytes: 2 * MB + version, content: 'text', files: 50 },
  ],
});

const folder = mkdtempSync(join(tmpdir(), 'chunked-push-pictures-'));
const registry = await startRegistry({ profile: 'limited', limit: 10 * 2 ** 20 });
const proxy = await startFaultProxy({ target: registry.host, bandwidth: 5 * MB });
const shown = (text: string): string => text.replaceAll(proxy.host, SHOWN_HOST);
try {
  mkdirSync(OUT, { recursive: true });
  const push = async (version: number) => {
    const file = join(folder, `image${version}.tar`);
    await writeDockerArchive(file, 'app:1', recipe(version));
    const image = `docker-archive:${file}`;
    const run = await runAction({ inputs: { image, tags: `${proxy.host}/team/app:1.${version}`, cache: 'false' } });
    if (run.exitCode !== 0) throw new Error(run.log);
    return run;
  };
  await push(1);
  const { log, summary } = await push(2);
  const lines = logLines(shown(log).replaceAll(folder, '/builds'));
  for (const theme of ['light', 'dark'] as const)
    writeFileSync(join(OUT, `log-${theme}.svg`), stillImage(lines, theme));
  await screenshots(shown(summary), OUT);
  const home = join(folder, 'home');
  mkdirSync(home);
  await writeDockerArchive(join(home, 'app.tar'), 'app:1', recipe(3));
  const frames = await recordTerminal(`${proxy.host}/team/app:1.3`, home);
  const recording = frames.map(({ at, lines }) => ({ at, lines: lines.map(shown) }));
  writeFileSync(join(OUT, 'terminal.svg'), animation(recording));
  console.log(`written: ${OUT}`);
} finally {
  await proxy.close();
  await registry.close();
  rmSync(folder, { recursive: true, force: true });
}
