/**
 * The use case `doctor`: what a registry and what is in front of it take, found by a few requests that leave nothing
 * behind.
 */

import { DEFAULT_CHUNK_SIZE } from '../blob/blob.ts';
import { explainLine, PushError } from '../common/error.ts';
import { formatReference, type Reference } from '../oci/reference.ts';
import { resolveCredentials } from '../registry/auth/stored-credentials.ts';
import { type Certificate, Examination, type Examined, type TrialUpload } from '../registry/examine.ts';
import { RegistryError } from '../registry/http/error.ts';
import type { Report } from './events.ts';
import type { RequestOptions } from './options.ts';

/** What was found. What could not be found out is undefined. */
export interface Diagnosis {
  /** `registry/repository`. */
  readonly reference: string;
  readonly scheme: 'http' | 'https';
  readonly certificate: Certificate | undefined;
  /** What says who answers: Server, Via and the like, as the headers have them. */
  readonly answers: readonly string[];
  /** How the registry asks for credentials; `none` when it does not. */
  readonly auth: string;
  /** Where the credentials came from that were used. */
  readonly credentials: string | undefined;
  readonly roundTripMs: number | undefined;
  /** Whether an upload could be opened: the right to push. */
  readonly mayPush: boolean;
  readonly announcedMin: number | undefined;
  readonly announcedMax: number | undefined;
  /** Whether a chunk was taken. */
  readonly takesChunks: boolean | undefined;
  /**
   * The largest of the sizes tried that is not refused, and the smallest that is, with the text of the refusal. Bytes.
   */
  readonly largestBody: number | undefined;
  readonly refusedBody: { readonly bytes: number; readonly reason: string } | undefined;
  /** Whether it says how far an upload has come, after a chunk. */
  readonly resumes: boolean | undefined;
  readonly referrers: boolean | undefined;
  /** Inputs that fit what was found, where the defaults do not. */
  readonly inputs: Readonly<Record<string, string>>;
  /** Why nothing more could be found out. */
  readonly problem: string | undefined;
}

const MIB = 2 ** 20;

/**
 * Common limits of proxies and registries, with what lies between them; bytes. The refusal of one takes a round trip.
 */
const SIZES = [
  ...[1 * MIB, 2 * MIB, 4 * MIB, 5 * MIB, 8 * MIB, 10 * MIB, 16 * MIB, 20 * MIB, 32 * MIB, 50 * MIB, 64 * MIB],
  ...[DEFAULT_CHUNK_SIZE, 100_000_000, 100 * MIB, 200 * MIB, 500_000_000, 512 * MIB, 1024 * MIB],
];

/** The chunk that is really sent: small enough for every limit and every link. */
const TRIAL_BYTES = 64 * 1024;

/** Everything together; what is not known by then stays unknown. Milliseconds. */
const LONGEST_MS = 60_000;

type Options = Pick<RequestOptions, 'credentials' | 'insecure' | 'ca' | 'tlsVerify' | 'env' | 'destinations'>;

/**
 * Examines the registry of a reference. Never throws for what the registry does: that is the diagnosis. Throws for
 * unusable inputs.
 */
export async function examine(
  { registry, repository, apiHost }: Reference,
  options: Options,
  report: Report,
  cancel: AbortSignal,
): Promise<Diagnosis> {
  const { insecure, ca, tlsVerify, env } = options;
  const found = await resolveCredentials({
    registry: apiHost,
    ...(apiHost === options.destinations[0]?.apiHost ? options.credentials : undefined),
    env,
    repositories: [repository],
    onSecret: (value) => report({ type: 'secret', value }),
  });
  const examination = new Examination({
    host: apiHost,
    repository,
    insecure,
    ca,
    tlsVerify,
    env,
    credentials: found.credentials,
    credentialProblems: found.problems,
    onEvent: (event) => report(event.type === 'debug' ? { type: 'debug', text: event.line } : event),
  });
  const signal = AbortSignal.any([cancel, AbortSignal.timeout(LONGEST_MS)]);
  const findings: Findings = { reference: formatReference({ registry, repository } as Reference), inputs: {} };
  try {
    await ask(examination, findings, signal);
  } catch (error) {
    cancel.throwIfAborted();
    findings.problem = explainLine(error);
  } finally {
    await examination.close();
  }
  return diagnosisOf(findings, examination, { source: found.credentials?.source, options });
}

type Findings = { -readonly [Name in keyof Diagnosis]?: Diagnosis[Name] | undefined } & {
  reference: string;
  inputs: Record<string, string>;
};

/** The questions, in order: what one needs, those before it have found. */
async function ask(examination: Examination, findings: Findings, signal: AbortSignal): Promise<void> {
  const first = await examination.ping(signal).catch(async (error: unknown) => {
    // A loopback host is asked without TLS first, and its scheme is known by its answer only.
    if (error instanceof RegistryError && error.kind === 'tls') {
      findings.scheme = 'https';
      findings.certificate = await examination.certificate(signal);
    }
    throw error;
  });
  findings.answers = answeringOf(first);
  findings.scheme = examination.origin.protocol === 'https:' ? 'https' : 'http';
  if (findings.scheme === 'https') findings.certificate = await examination.certificate(signal);
  if (first.error !== undefined) throw first.error;
  findings.roundTripMs = await roundTrip(examination, signal);
  findings.referrers = await examination.referrers(signal).catch(() => undefined);
  const upload = await examination.open(signal);
  findings.mayPush = upload.location !== undefined;
  if (!findings.mayPush) throw upload.opened.error ?? noRegistry(upload.opened);
  findings.announcedMin = lengthOf(upload.opened, 'oci-chunk-min-length');
  findings.announcedMax = lengthOf(upload.opened, 'oci-chunk-max-length');
  try {
    await sendChunk(examination, upload, findings, signal);
  } finally {
    await examination.remove(upload);
  }
  await findLargest(examination, upload, findings, signal);
}

const noRegistry = ({ status }: Examined): PushError =>
  new PushError(
    'examining the registry',
    `${status} to the opening of an upload, without a Location: this is no registry`,
    {
      remedy: 'check the host and port in the reference',
    },
  );

/** The fastest of some answers over a connection that is open, milliseconds. */
async function roundTrip(examination: Examination, signal: AbortSignal): Promise<number> {
  const times: number[] = [];
  for (let tries = 0; tries < 3; tries += 1) times.push((await examination.ping(signal)).ms);
  return Math.min(...times);
}

async function sendChunk(
  examination: Examination,
  upload: TrialUpload,
  findings: Findings,
  signal: AbortSignal,
): Promise<void> {
  const sent = await examination.send(upload, TRIAL_BYTES, signal);
  findings.takesChunks = sent.error === undefined;
  if (!findings.takesChunks) return;
  const { status, headers } = await examination.status(upload, signal);
  findings.resumes = status >= 200 && status < 300 && /\b0-\d+$/.test(headers.range ?? '');
}

/** Bisects the sizes, at an upload that is deleted. */
async function findLargest(
  examination: Examination,
  deleted: TrialUpload,
  findings: Findings,
  signal: AbortSignal,
): Promise<void> {
  const { announcedMax = Number.POSITIVE_INFINITY, roundTripMs = 0 } = findings;
  const sizes = [...SIZES.filter((size) => size < announcedMax), ...(findings.announcedMax ? [announcedMax] : [])];
  let [low, high] = [-1, sizes.length];
  // The largest first: most have no limit among these.
  for (let at = sizes.length - 1; high - low > 1; at = Math.floor((low + high) / 2)) {
    const refusal = await examination.refusal(deleted, sizes[at]!, roundTripMs, signal);
    if (refusal === undefined) low = at;
    else {
      high = at;
      findings.refusedBody = { bytes: sizes[at]!, reason: refusal.error?.message ?? String(refusal.status) };
    }
  }
  findings.largestBody = sizes[low];
}

/** Headers by which servers and proxies name themselves. */
const NAMING = ['server', 'via', 'x-served-by', 'x-powered-by', 'x-cache'] as const;

const answeringOf = ({ headers }: Examined): string[] => [
  ...NAMING.flatMap((name) => headers[name] ?? []),
  ...(headers['cf-ray'] === undefined || headers.server === 'cloudflare' ? [] : ['cloudflare']),
];

function lengthOf({ headers }: Examined, name: string): number | undefined {
  const value = Number(headers[name]);
  return Number.isSafeInteger(value) && value > 0 ? value : undefined;
}

function diagnosisOf(
  findings: Findings,
  { origin, authScheme }: Examination,
  { source, options }: { source: string | undefined; options: Options },
): Diagnosis {
  const scheme = findings.scheme ?? (origin.protocol === 'https:' ? 'https' : 'http');
  const { largestBody, announcedMax, certificate, refusedBody } = findings;
  const inputs: Record<string, string> = {};
  if (announcedMax === undefined && refusedBody && largestBody !== undefined && largestBody < DEFAULT_CHUNK_SIZE)
    inputs['chunk-size'] = String(largestBody);
  if (options.insecure && scheme === 'http') inputs.insecure = 'true';
  if (certificate?.problem !== undefined) inputs['ca-file'] = 'the file of the authority that signed the certificate';
  if (findings.mayPush !== true && authScheme !== undefined && source === undefined) {
    inputs.username = 'a user who may push';
    inputs.password = 'a secret';
  }
  return {
    certificate: undefined,
    answers: [],
    roundTripMs: undefined,
    mayPush: false,
    announcedMin: undefined,
    announcedMax: undefined,
    takesChunks: undefined,
    largestBody: undefined,
    refusedBody: undefined,
    resumes: undefined,
    referrers: undefined,
    problem: undefined,
    ...(findings as Partial<Diagnosis>),
    reference: findings.reference,
    scheme,
    auth: authScheme ?? 'none',
    credentials: source,
    inputs,
  };
}
