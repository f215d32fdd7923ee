/** The figures that were asked for, and what was measured. All about the 1.6 GB image. */
import { type Attempt, median, medianSeconds, type Results } from './results.ts';
import { MEMORY_SIZES, ROUND_TRIPS_MS, SIZE_WAYS, sizeRow, UPLINK_BYTES } from './studies.ts';

export interface Target {
  /** Which group of figures it belongs to. */
  readonly about: string;
  readonly text: string;
  /** The most that it may be, or the least. */
  readonly limit: number;
  readonly atLeast?: boolean;
  /** What the numbers are: a ratio unless told. */
  readonly unit?: string;
  /** undefined while it was not measured. */
  readonly measured: number | undefined;
}

const IMAGE = '1.6gb';

/** Whom a push out of overlay2 by gzip is compared with beside its own engine, by `save` and out of the store alike. */
const OTHERS: ReadonlyArray<readonly [text: string, limit: number, theirs: string]> = [
  ['overlay2, gzip : `skopeo copy docker-daemon:`', 0.85, 'overlay2-cold/skopeo copy docker-daemon:'],
  ['overlay2 of 28.5, gzip : `docker push` of 20.10', 0.4, 'docker20/docker push'],
  ['overlay2, gzip : `docker save` + `crane push`', 0.5, 'others/docker save + crane push'],
];

/** All targets with what is known. */
export function targetsOf(results: Results): readonly Target[] {
  const seconds = (key: string) => medianSeconds(results.rows[`${IMAGE}/${key}`]);
  const ratio = (ours: string, theirs: string) => divided(seconds(ours), seconds(theirs));
  const towards = (about: string, text: string, limit: number, ours: string, theirs: string): Target => ({
    about,
    text,
    limit,
    measured: ratio(ours, theirs),
  });
  const cold = 'overlay2-cold/';
  const store = 'containerd-cold/';
  const gzipSave = `${cold}chunked-push gzip, save`;
  return [
    towards('export by save', 'overlay2, gzip : `docker push` 28.5', 0.9, gzipSave, `${cold}docker push`),
    ...OTHERS.map(([text, limit, theirs]) => towards('export by save', text, limit, gzipSave, theirs)),
    towards(
      'export by save',
      'overlay2, zstd : `docker push` 28.5',
      0.7,
      `${cold}chunked-push zstd, save`,
      `${cold}docker push`,
    ),
    coresUsed(results),
    towards(
      'export by save',
      'containerd store : `docker save` alone',
      1.1,
      `${store}chunked-push gzip, save`,
      `${store}docker save alone`,
    ),
    towards(
      'export by save',
      'containerd store : `skopeo copy docker-daemon:`',
      0.5,
      `${store}chunked-push gzip, save`,
      `${store}skopeo copy docker-daemon:`,
    ),
    towards(
      'export by save',
      'containerd store, behind 100 MB : without a limit',
      1.05,
      `${store}chunked-push gzip, save, behind 100 MB`,
      `${store}chunked-push gzip, save`,
    ),
    towards(
      'known layers',
      'overlay2, fresh runner, unchanged : `docker push` 28.5',
      0.05,
      'overlay2-unchanged/chunked-push gzip, store',
      'overlay2-unchanged/docker push',
    ),
    {
      about: 'known layers',
      text: 'overlay2, fresh runner, unchanged',
      limit: 1,
      unit: 's',
      measured: seconds('overlay2-unchanged/chunked-push gzip, store'),
    },
    towards(
      'known layers',
      'overlay2, one layer changed, save : `docker push` 28.5',
      0.6,
      'overlay2-changed/chunked-push gzip, save',
      'overlay2-changed/docker push',
    ),
    towards(
      'archive',
      'gzip : `skopeo copy docker-archive:`',
      0.85,
      'archive/chunked-push gzip',
      'archive/skopeo copy docker-archive: gzip',
    ),
    towards('archive', 'gzip : `crane push`', 0.4, 'archive/chunked-push gzip', 'archive/crane push'),
    towards(
      'archive',
      'zstd : skopeo with zstd',
      0.7,
      'archive/chunked-push zstd',
      'archive/skopeo copy docker-archive: zstd',
    ),
    towards(
      "the engine's store",
      'containerd store : `docker push`',
      1,
      `${store}chunked-push gzip, store`,
      `${store}docker push`,
    ),
    towards(
      "the engine's store",
      'containerd store, behind 100 MB : `docker push` without a limit',
      1.15,
      `${store}chunked-push gzip, store, behind 100 MB`,
      `${store}docker push`,
    ),
    towards(
      "the engine's store",
      'overlay2, gzip : `docker push`',
      0.6,
      `${cold}chunked-push gzip, store`,
      `${cold}docker push`,
    ),
    ...OTHERS.map(([text, limit, theirs]) =>
      towards("the engine's store", text, limit, `${cold}chunked-push gzip, store`, theirs),
    ),
    towards(
      "the engine's store",
      'overlay2, zstd : `docker push`',
      0.4,
      `${cold}chunked-push zstd, store`,
      `${cold}docker push`,
    ),
    towards(
      "the engine's store",
      'overlay2, one layer changed : `docker push`',
      0.06,
      'overlay2-changed/chunked-push gzip, store',
      'overlay2-changed/docker push',
    ),
    towards(
      "the engine's store",
      'containerd store, one layer changed : `docker push`',
      1.2,
      'containerd-changed/chunked-push gzip, store',
      'containerd-changed/docker push',
    ),
    peakMemory(results),
    ...uplink(results),
    {
      about: 'start-up',
      text: 'start of the process to the first request',
      limit: 0.3,
      unit: 's',
      measured: seconds('startup/main to first request'),
    },
  ];
}

const divided = (ours: number | undefined, theirs: number | undefined): number | undefined =>
  ours === undefined || theirs === undefined ? undefined : ours / theirs;

/** CPU seconds of the client against the wall seconds in which there was something to compress: those after the export's first byte. */
function coresUsed(results: Results): Target {
  const cores = ({ clientCpu, seconds }: Attempt, firstByte: number) => clientCpu / (seconds - firstByte);
  const row = results.rows[`${IMAGE}/overlay2-cold/chunked-push gzip, save`];
  const first = firstByteSeconds(results);
  const measured =
    row && first !== undefined ? median(row.attempts.map((attempt) => cores(attempt, first))) : undefined;
  return {
    about: 'export by save',
    text: 'overlay2, gzip: cores used after the first byte of the export',
    limit: 1.9,
    atLeast: true,
    unit: 'cores',
    measured,
  };
}

/** Seconds until `docker save` of the image gives its first byte. */
export function firstByteSeconds(results: Results): number | undefined {
  const row = results.rows[`${IMAGE}/overlay2-cold/docker save alone`];
  return row && median(row.attempts.map(({ metadata }) => metadata?.seconds.firstByte ?? Number.NaN));
}

/** The largest of all sizes and ways. */
function peakMemory(results: Results): Target {
  const rows = MEMORY_SIZES.flatMap((recipe) =>
    SIZE_WAYS.flatMap((name) => sizeRow(results, recipe, name)?.attempts ?? []),
  );
  const peaks = rows.map((attempt) => attempt.peakMemory ?? 0);
  const measured = peaks.length === 0 ? undefined : Math.max(...peaks) / 1e6;
  return {
    about: 'constants',
    text: 'peak memory at 0.2, 0.8, 1.6 and 3.2 GB, gzip and zstd, save and store',
    limit: 200,
    unit: 'MB',
    measured,
  };
}

/** Seconds against those that the wire alone takes, after the first byte where there is an export to wait for. */
function uplink(results: Results): Target[] {
  return ROUND_TRIPS_MS.flatMap((trip) =>
    (['save', 'store', 'store, containerd'] as const).map((way): Target => {
      const row = results.rows[`${IMAGE}/uplink/chunked-push gzip, ${way}, ${trip} ms`];
      const wait = way === 'save' ? firstByteSeconds(results) : 0;
      const against = (attempt: Attempt) =>
        attempt.seconds / ((attempt.metadata?.bytesSent ?? Number.NaN) / UPLINK_BYTES + (wait ?? Number.NaN));
      return {
        about: 'slow uplink',
        text: `200 Mbit/s, round trip ${trip} ms, ${way} : bytes/bandwidth${way === 'save' ? ' + first byte of the export' : ''}`,
        limit: way === 'save' ? 1.1 : 1.05,
        measured: row && medianSeconds(row) !== undefined ? median(row.attempts.map(against)) : undefined,
      };
    }),
  );
}
