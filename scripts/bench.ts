/**
 * `npm run bench [-- --small] [--only CASE,...] [--sizes 60mb,1.6gb] [--rounds N] [--once skopeo,crane] [--keep] [--write] [--beside CHECKOUT]`: measures the push beside what
 * users would run instead, and prints Markdown. Results are kept, so that parts measured one by one make one document;
 * `--once` names slow contestants (`crane`), or cases (`docker20/`), that run in the first round only;
 * `--write` puts it into docs/benchmarks.md, `--print` measures nothing. `--keep` leaves engines and images for the next run, `--prepare`
 * only makes them. `--beside CHECKOUT` measures our own pushes alone, each beside the same push by that checkout's dist, and prints ratios.
 * Needs Linux with root or passwordless sudo, for the engines.
 */
import { writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { TEST_PARTS } from '../__tests__/support/real/parts.ts';
import { type BesideRow, besideTable, otherAction, pairsOf } from './bench/beside.ts';
import { CASES } from './bench/cases.ts';
import type { Contestant } from './bench/contestants.ts';
import { documentOf } from './bench/document.ts';
import { type ImageRecipe, SIXTY } from './bench/images.ts';
import { inRounds } from './bench/measure.ts';
import { type Attempt, type Results, readResults, withAttempt, writeResults } from './bench/results.ts';
import { measureRoundTrips } from './bench/round-trips.ts';
import { MEMORY_SIZES, memoryContestants, startupContestants, uplinkContestants } from './bench/studies.ts';
import { measureTls } from './bench/tls.ts';
import { setupTools } from './bench/tools.ts';
import { versionsOf } from './bench/versions.ts';
import { World } from './bench/world.ts';
import { setup } from './setup/parts.ts';

interface Part {
  /** The image's name and the case's. */
  readonly image: string;
  readonly name: string;
  readonly rounds: number;
  prepare(world: World): Promise<void>;
  begin?(world: World): Promise<void>;
  contestants(world: World): readonly Contestant[];
}

const { values: options } = parseArgs({
  options: {
    small: { type: 'boolean', default: false },
    only: { type: 'string' },
    sizes: { type: 'string' },
    rounds: { type: 'string', default: '3' },
    once: { type: 'string' },
    keep: { type: 'boolean', default: false },
    prepare: { type: 'boolean', default: false },
    write: { type: 'boolean', default: false },
    print: { type: 'boolean', default: false },
    beside: { type: 'string' },
  },
});

const beside = options.beside === undefined ? undefined : otherAction(options.beside);
const rounds = Number(options.rounds);
if (!Number.isInteger(rounds) || rounds < 1) throw new Error(`--rounds ${options.rounds}: expected a whole number`);
const LARGE = MEMORY_SIZES[2]!;
const SMALL_ROUNDS = 5;
/** What the small setting leaves out, and, by parts of `case/contestant`, the slow ones that it measures in the first round only. */
const SMALL_WITHOUT = 'level3';
const SMALL_ONCE = ['docker-daemon', 'crane', 'docker20/'];

const caseParts = (recipe: ImageRecipe): Part[] =>
  CASES.map((each) => ({
    image: recipe.name,
    name: each.name,
    rounds,
    prepare: (world) => each.setup(world, recipe),
    begin: async (world) => each.begin?.(world, recipe),
    contestants: (world) => each.contestants(world, recipe),
  }));

const study = (
  recipe: ImageRecipe,
  name: string,
  times: number,
  contestants: (world: World, recipe: ImageRecipe) => readonly Contestant[],
): Part => ({
  image: recipe.name,
  name,
  rounds: times,
  prepare: async (world) => {
    await world.have('overlay2', recipe, ['v1']);
    if (name === 'uplink') await world.have('containerd', recipe, ['v1']);
  },
  contestants: (world) => contestants(world, recipe),
});

/** The order in which a run that is cut short loses least: targets first, other tools and the small image last. */
function parts(): Part[] {
  const large = caseParts(LARGE);
  const isLast = ({ name }: Part) => name === 'docker20' || name === 'others';
  return [
    ...large.filter((part) => !isLast(part)),
    study(LARGE, 'startup', SMALL_ROUNDS, startupContestants),
    study(LARGE, 'uplink', rounds, uplinkContestants),
    ...MEMORY_SIZES.filter((recipe) => recipe !== LARGE).map((recipe) => study(recipe, 'memory', 1, memoryContestants)),
    ...large.filter(isLast),
    ...caseParts(SIXTY),
    study(SIXTY, 'startup', SMALL_ROUNDS, startupContestants),
    ...[SIXTY, ...MEMORY_SIZES.filter((recipe) => recipe !== LARGE)].map((recipe) =>
      study(recipe, 'uplink', 1, uplinkContestants),
    ),
  ];
}

function chosen(): Part[] {
  const only = options.only?.split(',').filter((name) => !(name in OWN_STUDIES));
  const sizes = (options.small ? SIXTY.name : options.sizes)?.split(',');
  // Studies that say little more at another size, and are there for whoever asks for it.
  const isExtra = ({ name, image }: Part) =>
    (name === 'startup' && !only && image !== (options.small ? SIXTY : LARGE).name) ||
    (name === 'uplink' && !options.sizes && image !== LARGE.name) ||
    (name === SMALL_WITHOUT && !only && options.small);
  const found = parts()
    .filter((part) => !only || only.includes(part.name))
    .filter((part) => !isExtra(part))
    .filter((part) => !sizes || sizes.includes(part.image));
  if (found.length === 0) {
    const names = new Set(parts().map(({ name }) => name));
    throw new Error(`nothing to measure: --only takes ${[...names, ...Object.keys(OWN_STUDIES)].join(', ')}`);
  }
  return found;
}

async function main(): Promise<void> {
  const began = new Date().toISOString().slice(0, 16).replace('T', ' ');
  const missing = await setup([...TEST_PARTS, 'docker-sid']);
  if (missing.length > 0) throw new Error(`the benchmark needs ${missing.join(', ')}`);
  await setupTools();
  const world = await World.start();
  // What was measured so far is in the results; the next run begins with the images as they are.
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) {
    process.once(signal, () => {
      console.error(`ended by ${signal}; what was measured before is kept`);
      void world.stop(true).finally(() => process.exit(1));
    });
  }
  try {
    let results: Results = { ...readResults(), versions: await versionsOf() };
    // Small images are no load worth waiting for: their engines start and fill side by side.
    if (options.small) await Promise.all(chosen().map((part) => part.prepare(world)));
    for (const part of chosen()) {
      console.error(`${part.image} ${part.name}: preparing ...`);
      await part.prepare(world);
      if (options.prepare) continue;
      if (beside === undefined) results = await measurePart(world, part, began, results);
      else await measureBeside(world, part, beside);
    }
  } finally {
    await world.stop(options.keep);
  }
}

const slow = options.once?.split(',') ?? (options.small ? SMALL_ONCE : []);
const isOnce =
  ({ name: where }: Part) =>
  ({ name }: Contestant): boolean =>
    slow.some((words) => `${where}/${name}`.includes(words));

async function measurePart(world: World, part: Part, began: string, before: Results): Promise<Results> {
  let results = before;
  await part.begin?.(world);
  for await (const { contestant, attempt } of inRounds(world, part.contestants(world), part.rounds, isOnce(part))) {
    results = withAttempt(results, `${part.image}/${part.name}/${contestant.name}`, began, attempt);
    writeResults(results);
    const outcome = attempt.failed === undefined ? '' : ` failed: ${attempt.failed}`;
    console.error(`  ${attempt.seconds.toFixed(2).padStart(7)} s  ${contestant.name}${outcome}`);
  }
  return results;
}

const besideRows: BesideRow[] = [];

async function measureBeside(world: World, part: Part, action: string): Promise<void> {
  await part.begin?.(world);
  for (const pair of pairsOf(part.contestants(world), action)) {
    const attempts = new Map<Contestant, Attempt[]>(pair.map((one) => [one, []]));
    for await (const { contestant, attempt } of inRounds(world, pair, part.rounds)) {
      attempts.get(contestant)?.push(attempt);
      const who = contestant === pair[0] ? '' : ', the other build';
      console.error(`  ${attempt.seconds.toFixed(2).padStart(7)} s  ${contestant.name}${who}`);
    }
    const [ours = [], other = []] = attempts.values();
    besideRows.push({ part: `${part.image} ${part.name}`, name: pair[0]?.name ?? '', ours, other });
  }
}

/** Studies that need engines of their own and none of the world's images. */
const OWN_STUDIES: Readonly<Record<string, () => Promise<Partial<Results>>>> = {
  'round-trips': async () => ({ roundTrips: await measureRoundTrips(rounds) }),
  tls: async () => ({ tls: await measureTls(rounds) }),
};

async function ownStudy(name: string): Promise<void> {
  const missing = await setup([...TEST_PARTS]);
  if (missing.length > 0) throw new Error(`the benchmark needs ${missing.join(', ')}`);
  await setupTools();
  const measured = await OWN_STUDIES[name]?.();
  writeResults({ ...readResults(), ...measured });
}

const only = options.only?.split(',') ?? [];
const own = only.filter((name) => name in OWN_STUDIES);
if (!options.print) for (const name of own) await ownStudy(name);
if (!options.print && (only.length === 0 || own.length < only.length)) await main();
if (beside !== undefined) console.log(besideTable(besideRows));
else print();

function print(): void {
  const { markdown, plot } = documentOf(readResults(), options.small ? [SIXTY.name] : undefined);
  console.log(markdown);
  if (!options.write) return;
  writeFileSync(fileURLToPath(new URL('../docs/benchmarks.md', import.meta.url)), markdown);
  if (plot) writeFileSync(fileURLToPath(new URL('../docs/benchmarks-size.svg', import.meta.url)), plot);
}
