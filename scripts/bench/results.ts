/** The results of all runs, kept in a file after every single measurement, so that parts measured at different times make one document. */
import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { RoundTripRow } from './round-trips.ts';
import type { TlsRow } from './tls.ts';
import { benchFolder } from './world.ts';

/** What one run of one tool cost. */
export interface Attempt {
  readonly seconds: number;
  /** CPU seconds of the client with all that it started, of the engine's daemons, and of the registry. */
  readonly clientCpu: number;
  readonly daemonCpu: number;
  readonly registryCpu: number;
  /** Bytes of resident set of the client's largest process. */
  readonly peakMemory?: number;
  /** Bytes of temporary files of client and daemon. */
  readonly peakDisk: number;
  /** Bytes of blobs that the registry holds beyond what it held before. */
  readonly stored: number;
  /** First words of what went wrong, where that is the result. */
  readonly failed?: string;
  /** Only of our own runs: the bytes and seconds that `metadata` tells. */
  readonly metadata?: {
    readonly bytesSent: number;
    readonly spoolPeak: number;
    readonly seconds: Readonly<Record<string, number>>;
  };
}

/** The attempts of one contestant in one run of the benchmark. */
export interface Row {
  /** When that run of the benchmark began: `2026-01-31 12:00`. */
  readonly run: string;
  readonly attempts: readonly Attempt[];
}

export interface Results {
  /** By `<image>/<case>/<contestant>`. */
  readonly rows: Readonly<Record<string, Row>>;
  /** Of the study of round trips, as it ran last. */
  readonly roundTrips?: readonly RoundTripRow[];
  /** Of the study of TLS, as it ran last. */
  readonly tls?: readonly TlsRow[];
  /** By name: what was run, in which version. */
  readonly versions: Readonly<Record<string, string>>;
}

const FILE = join(benchFolder, 'results.json');

/** What is known so far; nothing at first. */
export function readResults(file = FILE): Results {
  try {
    return JSON.parse(readFileSync(file, 'utf8')) as Results;
  } catch {
    return { rows: {}, versions: {} };
  }
}

export function writeResults(results: Results, file = FILE): void {
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(`${file}.new`, JSON.stringify(results, undefined, 1));
  renameSync(`${file}.new`, file);
}

/** Adds an attempt: to those of the same run, or in the place of those of an earlier one. */
export function withAttempt(results: Results, key: string, run: string, attempt: Attempt): Results {
  const before = results.rows[key];
  const attempts = before?.run === run ? [...before.attempts, attempt] : [attempt];
  return { ...results, rows: { ...results.rows, [key]: { run, attempts } } };
}

/** The middle one of some numbers; of an even count the mean of the two in the middle. NaN of none. */
export function median(numbers: readonly number[]): number {
  const sorted = [...numbers].sort((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  const upper = sorted[middle] ?? Number.NaN;
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? Number.NaN) + upper) / 2;
}

/** Median seconds of a row; undefined when it was not measured or did not succeed. */
export function medianSeconds(row: Row | undefined): number | undefined {
  if (!row || row.attempts.length === 0 || row.attempts.some(({ failed }) => failed !== undefined)) return undefined;
  return median(row.attempts.map(({ seconds }) => seconds));
}
