/** This build of the action beside another one's, in the same rounds: what a change has cost, on a machine whose mood changes by the hour. */
import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';
import type { Contestant } from './contestants.ts';
import { type Attempt, median } from './results.ts';

/** One way to push, by both builds. */
export interface BesideRow {
  readonly part: string;
  readonly name: string;
  readonly ours: readonly Attempt[];
  readonly other: readonly Attempt[];
}

/** The folder of the other build. Throws for one without action.yml and dist. */
export function otherAction(folder: string): string {
  const action = resolve(folder);
  for (const name of ['action.yml', 'dist']) {
    if (!existsSync(join(action, name))) throw new Error(`--beside ${folder}: no ${name} there; expected a checkout`);
  }
  return action;
}

/** Of some contestants those that are pushes by the action, each with its twin by another build. */
export const pairsOf = (contestants: readonly Contestant[], action: string): readonly (readonly Contestant[])[] =>
  contestants.flatMap((one) => (one.by ? [[one, one.by(action)]] : []));

/** Medians of both builds and their ratios, as Markdown. */
export function besideTable(rows: readonly BesideRow[]): string {
  const lines = rows.flatMap(({ part, name, ours, other }) => {
    const failed = [...ours, ...other].find((attempt) => attempt.failed !== undefined)?.failed;
    if (failed !== undefined) return [`| ${part} | ${name} | failed: ${failed} | | |`];
    const cells = MEASURES.map(({ of, digits }) => {
      const [now, before] = [median(ours.map(of)), median(other.map(of))];
      return `${now.toFixed(digits)} / ${before.toFixed(digits)} = ${(now / before).toFixed(2)}`;
    });
    return [`| ${part} | ${name} | ${cells.join(' | ')} |`];
  });
  const heads = MEASURES.map(({ head }) => head);
  return [`| case | way | ${heads.join(' | ')} |`, `|${'---|'.repeat(heads.length + 2)}`, ...lines].join('\n');
}

const MEASURES: readonly { readonly head: string; readonly digits: number; of(attempt: Attempt): number }[] = [
  { head: 'seconds', digits: 2, of: ({ seconds }) => seconds },
  {
    head: 'CPU seconds',
    digits: 2,
    of: ({ clientCpu, daemonCpu, registryCpu }) => clientCpu + daemonCpu + registryCpu,
  },
  { head: 'memory, MB', digits: 0, of: ({ peakMemory = Number.NaN }) => peakMemory / 1e6 },
];
