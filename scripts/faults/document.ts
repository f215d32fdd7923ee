/** docs/faults.md: what was measured, as Markdown. */
import { CHUNK, LAYER_BYTES } from '../../__tests__/faults/steps.ts';
import type { BesideRun } from './beside.ts';
import type { CutRun } from './cuts.ts';
import { type Ended, type MatrixRun, ROWS } from './matrix.ts';
import { OUTAGE_LAYER, OUTAGE_SPEED, type OutageRun } from './outages.ts';
import type { TokenRun } from './token.ts';

export interface Measured {
  readonly layerBytes?: number;
  readonly chunkBytes?: number;
  readonly matrix?: MatrixRun;
  readonly beside?: readonly BesideRun[];
  readonly cuts?: readonly CutRun[];
  readonly token?: TokenRun;
  readonly outages?: readonly OutageRun[];
}

const table = (head: readonly string[], rows: readonly (readonly string[])[]): string =>
  [head, head.map(() => '---'), ...rows].map((cells) => `| ${cells.join(' | ')} |`).join('\n');

const megabytes = (bytes: number): string => `${(bytes / 1_000_000).toFixed(1)} MB`;

const GROUPS: Readonly<Record<Ended['group'], string>> = {
  kept: 'sessions survive',
  lost: 'sessions are lost',
  whole: 'whole blobs',
};

/** One cell of the document: how a group of registries ended, the exceptions by name. */
function groupCell(cells: readonly Ended[]): string {
  const ends = new Map<string, string[]>();
  for (const { end, registry } of cells) {
    const words = typeof end === 'object' ? '–' : end === 'error' ? 'error' : `${end}`;
    ends.set(words, [...(ends.get(words) ?? []), registry]);
  }
  const [most, ...others] = [...ends].sort(([, one], [, other]) => other.length - one.length);
  if (most === undefined) return '–';
  return [most[0], ...others.map(([words, names]) => `${words} (${names.join(', ')})`)].join('; ');
}

function matrixTable({ cells }: MatrixRun): string {
  const groups = Object.keys(GROUPS) as Ended['group'][];
  const rows = ROWS.map(({ step, fault }) => {
    const row = cells.filter((cell) => cell.step === step && cell.fault === fault);
    return [step, fault, ...groups.map((group) => groupCell(row.filter((cell) => cell.group === group)))];
  });
  return table(['step', 'fault', ...groups.map((group) => GROUPS[group])], rows);
}

const namesOf = ({ cells }: MatrixRun, group: Ended['group']): string =>
  [...new Set(cells.filter((cell) => cell.group === group).map(({ registry }) => registry))].join(', ');

function whyNot({ cells }: MatrixRun): string {
  const reasons = new Map<string, number>();
  for (const { end } of cells) {
    if (typeof end === 'object') reasons.set(end.why, (reasons.get(end.why) ?? 0) + 1);
  }
  return [...reasons].map(([why, count]) => `${count} because ${why}`).join('; ');
}

function matrixPart(matrix: MatrixRun): string {
  const run = matrix.cells.filter(({ end }) => typeof end !== 'object').length;
  const groups = (Object.keys(GROUPS) as Ended['group'][]).map(
    (group) => `- ${GROUPS[group]}: ${namesOf(matrix, group)}`,
  );
  return `Each cell is a push of one image (a layer of ${LAYER_BYTES} bytes in chunks of ${CHUNK}, a config, a manifest) through the fault
proxy. A number: the push went through, every blob and the manifest were read back and are byte for byte right, and so many bytes
were sent again. \`error\`: the push failed with an error that names the step and the cause. There is no third end: ${run} cells ran,
${matrix.complaints.length} ended otherwise or cost more than their stated bound (\`__tests__/faults/expected.ts\`). \`–\`: a cell that can't be
(${whyNot(matrix)}).

The registries, by what becomes of an upload whose connection breaks:

${groups.join('\n')}

\`hub\` refuses every seventh request with 429 of its own, so its numbers hold those too. GET status comes after a 502 to the middle
chunk, which costs that chunk.

${matrixTable(matrix)}`;
}

/** The end of an error's chain of causes, without the URLs before it. */
const lastWords = (failed: string): string =>
  (failed.split(': ').at(-1) ?? failed).replaceAll('|', '\\|').slice(0, 100);

function cutsPart(cuts: readonly CutRun[], { layerBytes = 0, chunkBytes = 0 }: Measured): string {
  const rows = cuts.map((run) => [
    run.registry,
    run.tool,
    `${run.made} of ${run.cuts}`,
    run.failed === undefined ? 'pushed' : `failed: ${lastWords(run.failed)}`,
    megabytes(run.sent),
    run.resent === undefined ? '–' : megabytes(run.resent),
    `${run.seconds.toFixed(0)} s`,
  ]);
  return `One layer of ${megabytes(layerBytes)} that does not shrink. The connection is cut whenever the upload passes one of the places, which
come from a seed and are the same for every tool; chunked-push sends chunks of ${megabytes(chunkBytes)}. "Sent again" is all that
reached the registry beyond the image's own bytes.

${table(['registry', 'tool', 'cuts met', 'end', 'sent', 'sent again', 'time'], rows)}

docker-registry is the real one; the other two are profiles of the test registry (\`__tests__/support/registry\`), one of which keeps
the bytes of a chunk that broke, while the other takes the whole chunk back: k cuts cost k chunks at most, and never the layer.

docker-registry 2.8 forgets an upload whose PATCH broke off after its first bytes: GET, PATCH and DELETE of it get 404, since the
signed state in every Location that a client can have names another offset than the file has. Nobody can go on there, so each cut
costs what was sent of the layer since the last one, for every tool alike.`;
}

function besidePart(runs: readonly BesideRun[]): string {
  const tools = [...new Set(runs.map(({ tool }) => tool))];
  const rows = [...new Set(runs.map(({ step, fault }) => `${step}|${fault}`))].map((key) => {
    const [step = '', fault = ''] = key.split('|');
    const cells = tools.map((tool) => {
      const run = runs.find((one) => one.step === step && one.fault === fault && one.tool === tool);
      return run === undefined ? '–' : `${run.end}`;
    });
    return [step, fault, ...cells];
  });
  return `A small image (one layer of 300000 bytes), the same fault once at the first request of the step, on the same registry (profile
distribution3 of the test registry). A number: pushed, and so many bytes reached the registry beyond the image's own. \`hangs\`: no end within half a minute; our own
time-out for an answer is 130 s, longer than the 100 s after which Cloudflare gives up, so under "no answer" we are still waiting then,
and go on later. \`unmet\`: the tool does not send this request.

${table(['step', 'fault', ...tools], rows)}`;
}

/** One row for what happened, one column for each tool. */
function outagesPart(runs: readonly OutageRun[]): string {
  const tools = [...new Set(runs.map(({ tool }) => tool))];
  const rows = [...new Set(runs.map(({ what }) => what))].map((what) => {
    const cells = tools.map((tool) => {
      const run = runs.find((one) => one.what === what && one.tool === tool);
      if (run === undefined) return '–';
      const seconds = `${run.seconds.toFixed(0)} s`;
      return run.failed === undefined ? `pushed, ${seconds}` : `failed after ${seconds}`;
    });
    return [what, ...cells];
  });
  return `An image with one layer of ${megabytes(OUTAGE_LAYER)}, over a link of ${OUTAGE_SPEED / 1_000_000} MB/s for each connection, into
docker-registry 2.8 behind a proxy that is away from the middle of the layer on (connections are reset, then refused), or that
ends each request after 3 s, as load balancers do after 30 or 100 s: the layer takes ${(OUTAGE_LAYER / OUTAGE_SPEED).toFixed(0)} s in one request. Every tool with its
defaults (chunked-push: chunks of 95 MiB at first), skopeo with \`--retry-times 3\`.

${table(['what happens', ...tools], rows)}`;
}

const tokenPart = (run: TokenRun): string =>
  `A token that is good for ${run.lifetimeSeconds} seconds, a layer of ${megabytes(run.layerBytes)} over a link of 1 MB/s: ${
    run.failed ?? 'pushed'
  } in ${run.seconds.toFixed(0)} s, with ${run.tokens} tokens, and at most ${run.most401} answer(s) 401 to any one of them.`;

/** The document's sections in order, by their headings. */
const HEADINGS: Readonly<Record<'cuts' | 'outages' | 'token' | 'beside' | 'matrix', string>> = {
  cuts: '## Cuts at random places of a layer',
  outages: '## Outages and time limits',
  token: '## Tokens that run out',
  beside: '## The same faults, other tools',
  matrix: '## Every step under every fault',
};

/** The document for what was measured; what was not measured stays as it is in the document so far. */
export function documentOf(measured: Measured, soFar: string): string {
  const { beside, cuts, token, matrix, outages } = measured;
  const sections: Partial<Record<keyof typeof HEADINGS, string | undefined>> = {
    cuts: cuts && cutsPart(cuts, measured),
    outages: outages && outagesPart(outages),
    token: token && tokenPart(token),
    beside: beside && besidePart(beside),
    matrix: matrix && matrixPart(matrix),
  };
  const old = soFar.split(/\n+(?=## )/).map((section) => section.trimEnd());
  const parts = [
    `# What faults cost

Made by \`npm run faults -- --write\`. \`npm test\` runs the same matrix and smaller versions of the rest (\`__tests__/faults\`).`,
  ];
  for (const name of Object.keys(HEADINGS) as (keyof typeof HEADINGS)[]) {
    const text = sections[name];
    const section =
      text === undefined ? old.find((one) => one.startsWith(HEADINGS[name])) : `${HEADINGS[name]}\n\n${text}`;
    if (section !== undefined) parts.push(section);
  }
  return `${parts.join('\n\n')}\n`;
}
