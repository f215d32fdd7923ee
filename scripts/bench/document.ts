/** The document: what was asked for and reached, every case as a table, and memory and time by size. */
import { CASES } from './cases.ts';
import { notes } from './notes.ts';
import { plotOf } from './plot.ts';
import { type Attempt, median, medianSeconds, type Results, type Row } from './results.ts';
import { roundTripTables } from './round-trips.ts';
import { MEMORY_SIZES, SIZE_WAYS, sizeKey } from './studies.ts';
import { type Target, targetsOf } from './targets.ts';
import { tlsTables } from './tls.ts';

const IMAGES: Readonly<Record<string, string>> = {
  '1.6gb': 'The 1.6 GB image (1700 MB in 6 layers, one of 986 MB)',
  '60mb': 'The 60 MB image (64 MB in 4 layers)',
};

export interface BenchmarkDocument {
  readonly markdown: string;
  /** An SVG of time and memory by size; none before they were measured. */
  readonly plot: string | undefined;
}

/** Markdown of all that is known, or of some images only. */
export function documentOf(results: Results, images: readonly string[] = Object.keys(IMAGES)): BenchmarkDocument {
  const plot = plotOf(results);
  const sections = [
    INTRODUCTION,
    environment(results),
    ...(images.includes('1.6gb') ? ['## What was asked for', targetTable(targetsOf(results)), ...notes()] : []),
    ...images.flatMap((image) => caseTables(results, image)),
    ...roundTripTables(results.roundTrips ?? []),
    ...tlsTables(results.tls ?? []),
    ...(images.includes('1.6gb') ? studies(results, plot !== undefined) : []),
  ];
  return { markdown: `${sections.filter((section) => section !== '').join('\n\n')}\n`, plot };
}

const INTRODUCTION = `# Benchmarks

    npm run bench                 # everything: about 55 minutes and 20 GB of disk
    npm run bench -- --small      # the 60 MB image alone: about 2 minutes, with slow tools in one round
    npm run bench -- --only overlay2-cold,archive --sizes 1.6gb --rounds 3

It sets up real engines and docker-registry by itself (Linux, as root or with passwordless sudo), makes images from this machine's own
programs, libraries, packages and documents, 8 % of them bytes that do not shrink, and lets all tools take turns (A B C, C B A, B C A, …).
Numbers are medians. The registry is on loopback, on disk, and emptied before each cold run; each of our runs has a fresh HOME and
RUNNER_TEMP. A "fresh runner" is a machine that knows nothing of earlier pushes, while the registry has the image: for \`docker push\`
the engine is restarted without its memory of pushes. Node.js, dist and the docker command are in the system's memory before each run. Ratios compare what ran in one run of the benchmark, unless two rows name two runs.

CPU is user + system, with all processes that were started: of the client, of the engine's daemons, and of the registry; "cores busy" is
their sum by the seconds, so a row near the number of cores is bound by the processor and by nothing else. Memory is the
resident set of the client's largest process; disk is what client and daemon hold in temporary files at most (looked at four times a
second); stored is what the registry has more of blobs afterwards.`;

const environment = ({ versions }: Results): string =>
  ['| | |', '|---|---|', ...Object.entries(versions).map(([name, value]) => `| ${name} | ${value} |`)].join('\n');

function targetTable(targets: readonly Target[]): string {
  const rows = targets.map(({ about, text, limit, atLeast, unit, measured }) => {
    const asked = `${atLeast ? 'at least' : 'at most'} ${limit}${unit === undefined ? ' x' : ` ${unit}`}`;
    const rounded = (value: number) =>
      value >= 10 ? value.toFixed(0) : value >= 0.1 ? value.toFixed(2) : value.toFixed(3);
    if (measured === undefined || Number.isNaN(measured)) return `| ${about} | ${text} | ${asked} | – | not measured |`;
    const reached = atLeast ? measured >= limit : measured <= limit;
    return `| ${about} | ${text} | ${asked} | ${rounded(measured)} | ${reached ? 'reached' : '**not reached**'} |`;
  });
  return ['| about | figure | asked for | measured | |', '|---|---|---|---|---|', ...rows].join('\n');
}

function caseTables(results: Results, image: string): string[] {
  const tables = CASES.flatMap(({ name, title, reference }) => {
    const prefix = `${image}/${name}/`;
    const rows = Object.entries(results.rows).filter(([key]) => key.startsWith(prefix));
    if (rows.length === 0) return [];
    const base = medianSeconds(results.rows[`${prefix}${reference}`]);
    return [`### ${title}`, table(rows, prefix, reference, base)];
  });
  return tables.length === 0 ? [] : [`## ${IMAGES[image] ?? image}`, ...tables];
}

const MB = 1e6;

/** The end of a tool's message: what the other side said. */
const lastWords = (message: string): string => (message.split(': ').at(-1) ?? '').slice(-80);

function table(
  rows: ReadonlyArray<readonly [string, Row]>,
  prefix: string,
  reference: string,
  base: number | undefined,
) {
  const lines = [...rows]
    .sort(([, a], [, b]) => (medianSeconds(a) ?? Infinity) - (medianSeconds(b) ?? Infinity))
    .map(([key, { run, attempts }]) => {
      const failure = attempts.find(({ failed }) => failed !== undefined)?.failed;
      const middle = (of: (attempt: Attempt) => number) => median(attempts.map(of));
      const seconds = attempts.map((attempt) => attempt.seconds);
      const spread = `${Math.min(...seconds).toFixed(2)}–${Math.max(...seconds).toFixed(2)}`;
      const time = middle((attempt) => attempt.seconds);
      const cpu = [(a: Attempt) => a.clientCpu, (a: Attempt) => a.daemonCpu, (a: Attempt) => a.registryCpu];
      const bytes = [(a: Attempt) => a.peakMemory ?? Number.NaN, (a: Attempt) => a.peakDisk, (a: Attempt) => a.stored];
      const cells = [
        key.slice(prefix.length),
        failure === undefined
          ? `${time.toFixed(2)} (${spread})`
          : `fails after ${time.toFixed(2)}: ${lastWords(failure)}`,
        failure === undefined && base !== undefined ? (time / base).toFixed(time / base < 0.1 ? 3 : 2) : '–',
        cpu.map((of) => middle(of).toFixed(1)).join(' + '),
        middle((a) => (a.clientCpu + a.daemonCpu + a.registryCpu) / a.seconds).toFixed(2),
        ...bytes.map((of) =>
          Number.isNaN(middle(of)) ? '–' : (middle(of) / MB).toFixed(middle(of) < MB * 10 ? 1 : 0),
        ),
        `${attempts.length}, ${run}`,
      ];
      return `| ${cells.join(' | ')} |`;
    });
  return [
    `| tool | seconds | : ${reference} | CPU s, client + daemon + registry | cores busy | peak MB | disk MB | stored MB | runs, when (UTC) |`,
    '|---|---|---|---|---|---|---|---|---|',
    ...lines,
  ].join('\n');
}

function studies(results: Results, plotted: boolean): string[] {
  const section = (title: string, wanted: (key: string) => boolean): string[] => {
    const rows = Object.entries(results.rows).filter(([key]) => wanted(key));
    if (rows.length === 0) return [];
    const lines = rows.map(([key, { run, attempts }]) => {
      const [image, , name] = key.split('/');
      const memory = median(attempts.map((attempt) => attempt.peakMemory ?? Number.NaN));
      const sent = median(attempts.map(({ metadata }) => metadata?.bytesSent ?? Number.NaN));
      const spool = median(attempts.map(({ metadata }) => metadata?.spoolPeak ?? Number.NaN));
      const megabytes = [memory, spool, sent].map((value) => (Number.isNaN(value) ? '–' : (value / MB).toFixed(0)));
      const seconds = median(attempts.map((attempt) => attempt.seconds)).toFixed(2);
      return `| ${[image, name, seconds, ...megabytes, `${attempts.length}, ${run}`].join(' | ')} |`;
    });
    const head =
      '| image | | seconds | peak MB | spool MB | sent MB | runs, when (UTC) |\n|---|---|---|---|---|---|---|';
    return [`## ${title}`, [head, ...lines].join('\n')];
  };
  const sizeKeys = new Set(MEMORY_SIZES.flatMap((recipe) => SIZE_WAYS.map((name) => sizeKey(results, recipe, name))));
  const isSize = (key: string) => sizeKeys.has(key);
  return [
    ...phases(results),
    ...section('Memory and time by size', isSize),
    ...(plotted ? ['![Seconds and peak memory by size of the image](benchmarks-size.svg)'] : []),
    ...section('An uplink of 200 Mbit/s', (key) => key.includes('/uplink/')),
    ...section('Start-up', (key) => key.includes('/startup/')),
  ];
}

const PHASES = ['resolve', 'waitingForExport', 'compressing', 'heldBack', 'sending', 'waitingForRegistry', 'manifest'];

/** Our own rows by the phases of the `metadata` output. */
function phases(results: Results): string[] {
  const rows = Object.entries(results.rows).filter(
    ([key, { attempts }]) => key.startsWith('1.6gb/') && attempts.some((attempt) => attempt.metadata?.seconds.total),
  );
  if (rows.length === 0) return [];
  const lines = rows.map(([key, { attempts }]) => {
    const of = (phase: string) => median(attempts.map((attempt) => attempt.metadata?.seconds[phase] ?? Number.NaN));
    return `| ${[key.slice('1.6gb/'.length), ...['total', ...PHASES].map((phase) => of(phase).toFixed(2))].join(' | ')} |`;
  });
  const head = `| run | total | ${PHASES.join(' | ')} |\n|---|---|${'---|'.repeat(PHASES.length)}`;
  const text =
    'Seconds as the `metadata` output tells them; those between resolve and manifest are summed over layers, which overlap.';
  return ['## Where our time goes', text, [head, ...lines].join('\n')];
}
