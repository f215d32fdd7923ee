/** A diagnosis in about ten lines. */

import { oneLine } from '../common/printable.ts';
import type { Diagnosis } from '../push/diagnosis.ts';
import { formatBytes, formatMilliseconds } from './format.ts';

/** Lines of `what: how it is`, the first the repository; all outside text in them is harmless. */
export function diagnosisLines(diagnosis: Diagnosis): string[] {
  const { reference, problem } = diagnosis;
  const answered = diagnosis.roundTripMs !== undefined || diagnosis.answers.length > 0;
  const rows: [name: string, text: string | undefined][] = [
    ['scheme', diagnosis.scheme],
    ['certificate', answered || diagnosis.certificate ? certificate(diagnosis) : undefined],
    [
      'answered by',
      answered ? diagnosis.answers.map((name) => oneLine(name, 80)).join(', ') || 'does not say' : undefined,
    ],
    ['known as', diagnosis.knownAs],
    ['credentials', answered ? credentials(diagnosis) : undefined],
    ['round trip', diagnosis.roundTripMs === undefined ? undefined : formatMilliseconds(diagnosis.roundTripMs)],
    ['chunks', chunks(diagnosis)],
    ['largest body', largestBody(diagnosis)],
    ['resume', resume(diagnosis)],
    [
      'referrers API',
      diagnosis.referrers === undefined
        ? undefined
        : diagnosis.referrers
          ? 'yes'
          : 'no: lists are kept under tags sha256-…',
    ],
    ['inputs', problem === undefined || Object.keys(diagnosis.inputs).length > 0 ? inputs(diagnosis) : undefined],
    ['problem', problem === undefined ? undefined : oneLine(problem, 500)],
  ];
  const lines = rows.flatMap(([name, text]) => (text === undefined ? [] : [`  ${name.padEnd(14)}${text}`]));
  return [reference, ...lines];
}

function certificate({ scheme, certificate: found }: Diagnosis): string | undefined {
  if (scheme === 'http') return undefined;
  if (found === undefined) return 'not seen (a proxy, or no TLS)';
  const { protocol, subject, issuer, validTo, problem } = found;
  const trust = problem === undefined ? 'trusted' : `NOT trusted: ${oneLine(problem, 100)}`;
  return `${trust}; ${oneLine(subject, 80)} by ${oneLine(issuer, 80)} until ${oneLine(validTo, 40)}, ${protocol}`;
}

function credentials({ auth, credentials: source, mayPush, problem }: Diagnosis): string {
  const who = source === undefined ? 'none were found' : `those of ${oneLine(source, 200)}`;
  const asks = auth === 'none' ? 'not asked for' : `${auth}: ${who}`;
  return mayPush ? `${asks}; may push` : `${asks}${problem === undefined ? '' : '; no push'}`;
}

function chunks({
  takesChunks,
  announcedMin,
  announcedMax,
  refusedChunk,
  largestBody: most,
  refusedBody,
}: Diagnosis): string | undefined {
  if (takesChunks === undefined || (!takesChunks && refusedChunk === undefined)) return undefined;
  if (!takesChunks) {
    const limit = refusedBody === undefined || most === undefined ? '' : `, and none over ${sizeOf(most)} can go`;
    return `not taken: a layer goes in one request${limit}`;
  }
  if (refusedChunk !== undefined) return `taken, but not one of ${sizeOf(refusedChunk)}`;
  const announced = [
    ...(announcedMin === undefined ? [] : [`at least ${sizeOf(announcedMin)}`]),
    ...(announcedMax === undefined ? [] : [`at most ${sizeOf(announcedMax)}`]),
  ];
  return `taken; announced: ${announced.join(', ') || 'nothing'}`;
}

function largestBody({
  largestBody: bytes,
  refusedBody: refused,
  announcedMax,
  bodyProblem,
  mayPush,
}: Diagnosis): string | undefined {
  if (bodyProblem !== undefined) return `not found out: ${oneLine(bodyProblem, 200)}`;
  if (!mayPush || (bytes === undefined && refused === undefined)) return undefined;
  const taken = bytes === undefined ? 'none of those tried' : sizeOf(bytes);
  if (refused !== undefined) return `${taken}; ${sizeOf(refused.bytes)}: ${oneLine(refused.reason, 120)}`;
  return announcedMax === undefined ? `at least ${taken}` : `${taken}, as announced (more was not tried)`;
}

function resume({ resumes, takesChunks }: Diagnosis): string | undefined {
  if (takesChunks === undefined) return undefined;
  if (resumes === undefined) return 'no: a request that breaks is sent again';
  return resumes ? 'yes: it says how far an upload has come' : 'no: it does not say how far an upload has come';
}

const inputs = ({ inputs: values }: Diagnosis): string =>
  Object.entries(values)
    .map(([name, value]) => `${name}: ${value}`)
    .join(', ') || 'none needed: the defaults fit';

const sizeOf = (bytes: number): string => `${formatBytes(bytes)} (${bytes} bytes)`;
