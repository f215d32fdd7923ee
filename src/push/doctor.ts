/**
 * The use case `doctor`: what a registry and what is in front of it take, found by a few requests that leave nothing
 * behind.
 */

import { explainLine, PushError } from '../common/error.ts';
import { formatReference, type Reference } from '../oci/reference.ts';
import { resolveCredentials } from '../registry/auth/stored-credentials.ts';
import { type Attempt, findBodyLimit } from '../registry/body-limit.ts';
import { Examination, type Examined, STEP, type TrialUpload } from '../registry/examine.ts';
import { SMALLEST_LIMIT } from '../registry/host/capabilities.ts';
import { isPage, notRegistry, RegistryError, unknownOwner } from '../registry/http/error.ts';
import { lacksTls } from '../registry/http/network-error.ts';
import { announcedLengths } from '../registry/http/response.ts';
import { refusesSize } from '../registry/upload/classify.ts';
import { type Diagnosis, diagnosisOf, type ExamineOptions, type Findings, knownAs } from './diagnosis.ts';
import type { Report } from './events.ts';

/**
 * The chunk that is really sent: small enough for every limit and every link. Registries on an object store may want
 * parts of at least 5 MiB (ECR): where the small one is refused, such a part is tried.
 */
const TRIAL_BYTES = [SMALLEST_LIMIT, 5 * 2 ** 20] as const;

/** How long one answer is waited for, and all together but for the deletion of what was opened. Milliseconds. */
const PATIENCE = { answerMs: 6000, totalMs: 8500 };

/**
 * Examines the registry of a reference. Never throws for what the registry does: that is the diagnosis. Throws for
 * unusable inputs.
 */
export async function examine(
  { registry, repository, apiHost }: Reference,
  options: ExamineOptions,
  report: Report,
  cancel: AbortSignal,
  { answerMs, totalMs } = PATIENCE,
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
    answerMs,
    onEvent: (event) => report(event.type === 'debug' ? { type: 'debug', text: event.line } : event),
  });
  const limit = AbortSignal.timeout(totalMs);
  const findings: Findings = { reference: formatReference({ registry, repository } as Reference), inputs: {} };
  findings.knownAs = knownAs(apiHost);
  const inquiry = { examination, findings, host: apiHost, repository, insecure };
  let failure: unknown;
  try {
    await ask(inquiry, AbortSignal.any([cancel, limit]));
  } catch (error) {
    cancel.throwIfAborted();
    failure = error;
    findings.problem = limit.aborted ? `${STEP}: not done after ${totalMs / 1000} s` : explainLine(error, STEP);
  } finally {
    await examination.close();
  }
  return diagnosisOf(findings, examination, { source: found.credentials?.source, options, failure });
}

/** One examination under way. */
interface Inquiry {
  readonly examination: Examination;
  readonly findings: Findings;
  readonly host: string;
  readonly repository: string;
  readonly insecure: boolean;
}

/** The questions, in order: what one needs, those before it have found. */
async function ask(inquiry: Inquiry, signal: AbortSignal): Promise<void> {
  const { examination, findings } = inquiry;
  const first = await firstAnswer(inquiry, signal);
  findings.answers = answeringOf(first);
  findings.scheme = examination.origin.protocol === 'https:' ? 'https' : 'http';
  if (findings.scheme === 'https') findings.certificate = await examination.certificate(signal);
  if (first.error?.temporary) throw first.error;
  findings.roundTripMs = await roundTrip(examination, signal);
  const upload = await examination.open(signal).catch((error: unknown) => {
    // A redirect of what is no registry leads to a login, and not to where it has moved.
    const isLed = error instanceof RegistryError && error.kind === 'protocol' && !answersAsRegistry(first);
    throw isLed ? error.advised(notRegistry(inquiry.host)) : error;
  });
  findings.mayPush = upload.location !== undefined;
  if (!findings.mayPush) throw refusalOf(inquiry, first, upload.opened);
  const { min, max } = announcedLengths(upload.opened.headers);
  findings.announcedMin = min;
  findings.announcedMax = max;
  findings.referrers = await examination.referrers(signal).catch(() => undefined);
  const deleted = await sendChunks(inquiry, upload, signal);
  await findLargest(inquiry, deleted, signal);
}

/** Asks the API's root, which also shows the scheme. */
async function firstAnswer(inquiry: Inquiry, signal: AbortSignal): Promise<Examined> {
  const { examination, findings, insecure } = inquiry;
  const answer = await examination.ping(signal).catch(async (error: unknown) => {
    // A loopback host is asked without TLS first, and its scheme is known by its answer only.
    if (!(error instanceof RegistryError) || !['tls', 'reset', 'protocol'].includes(error.kind)) throw error;
    const speaksTls = await showsCertificate(inquiry, signal);
    if (!speaksTls && lacksTls(error)) findings.scheme = 'http';
    throw insecure && speaksTls ? error.advised(SPEAKS_TLS) : error;
  });
  // Go's and nginx's servers of TLS say it in plain HTTP.
  if (insecure && answer.status === 400 && /\bHTTPS\b/.test(answer.error?.body ?? '')) {
    await showsCertificate(inquiry, signal);
    throw answer.error!.advised(SPEAKS_TLS);
  }
  return answer;
}

/** Notes the certificate of a server whose scheme its answers did not tell. Resolves to whether it has one. */
async function showsCertificate({ examination, findings }: Inquiry, signal: AbortSignal): Promise<boolean> {
  findings.certificate = await examination.certificate(signal);
  if (findings.certificate !== undefined) findings.scheme = 'https';
  return findings.certificate !== undefined;
}

const SPEAKS_TLS = 'this port speaks TLS: leave insecure out';

/** Why no upload was opened, with what to do about it. */
function refusalOf({ host, repository }: Inquiry, first: Examined, { status, error }: Examined): Error {
  if (error === undefined)
    return new PushError(STEP, `${status} to the opening of an upload, without a Location`, {
      remedy: notRegistry(host),
    });
  if (error.status !== 404 || error.codes.length > 0) return error;
  return error.advised(answersAsRegistry(first) ? unknownOwner(host, repository) : notRegistry(host));
}

/** By its answer to the API's root. */
const answersAsRegistry = ({ status, headers }: Examined): boolean =>
  headers['docker-distribution-api-version'] !== undefined ||
  ((status === 200 || status === 401) && !isPage({ headers }));

/** The fastest of some answers over a connection that is open, milliseconds. */
async function roundTrip(examination: Examination, signal: AbortSignal): Promise<number> {
  const times: number[] = [];
  for (let tries = 0; tries < 3; tries += 1) times.push((await examination.ping(signal)).ms);
  return Math.min(...times);
}

/** Sends a chunk at the upload, or a larger one at another. Resolves to an upload that is deleted. */
async function sendChunks({ examination, findings }: Inquiry, first: TrialUpload, signal: AbortSignal) {
  let upload = first;
  for (const bytes of TRIAL_BYTES) {
    try {
      const { error } = await examination.send(upload, bytes, signal);
      findings.takesChunks = error === undefined;
      if (error === undefined) {
        const { status, headers } = await examination.status(upload, signal);
        findings.resumes = status >= 200 && status < 300 && /\b0-\d+$/.test(headers.range ?? '');
        return upload;
      }
      if (refusesSize({ status: error.status ?? 0, error })) {
        findings.refusedBody = { bytes, reason: error.reason };
        return upload;
      }
      findings.refusedChunk ??= bytes;
    } finally {
      await examination.remove(upload);
    }
    if (bytes === TRIAL_BYTES.at(-1)) return upload;
    const next = await examination.open(signal);
    if (next.location === undefined) return upload;
    upload = next;
  }
  return upload;
}

/** At an upload that is deleted. */
async function findLargest({ examination, findings }: Inquiry, deleted: TrialUpload, signal: AbortSignal) {
  if (findings.refusedBody !== undefined) return;
  const { announcedMax, roundTripMs = 0 } = findings;
  try {
    const fate: Attempt = (bytes, isSent) => examination.fate(deleted, bytes, { isSent, roundTripMs, signal });
    const { largest, refused } = await findBodyLimit(fate, announcedMax);
    findings.largestBody = largest;
    findings.refusedBody = refused;
  } catch (error) {
    signal.throwIfAborted();
    findings.bodyProblem = explainLine(error, STEP);
  }
}

/** Headers by which servers and proxies name themselves. */
const NAMING = ['server', 'via', 'x-served-by', 'x-powered-by', 'x-cache'] as const;

const answeringOf = ({ headers }: Examined): string[] => [
  ...NAMING.flatMap((name) => headers[name] ?? []),
  ...(headers['cf-ray'] === undefined || headers.server === 'cloudflare' ? [] : ['cloudflare']),
];
