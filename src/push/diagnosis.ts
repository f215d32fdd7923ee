/** What was found out about a registry, and the inputs that follow from it. */

import { DEFAULT_CHUNK_SIZE } from '../blob/blob.ts';
import type { BodyLimit } from '../registry/body-limit.ts';
import { type Examination, STEP } from '../registry/examine.ts';
import { profileFor } from '../registry/host/profiles.ts';
import { RegistryError } from '../registry/http/error.ts';
import { isOfUnknownAuthority, lacksTls } from '../registry/http/network-error.ts';
import type { Certificate } from '../registry/http/trust.ts';
import type { RequestOptions } from './options.ts';

/** What was found. What could not be found out is undefined. */
export interface Diagnosis {
  /** `registry/repository`. */
  readonly reference: string;
  readonly scheme: 'http' | 'https';
  readonly certificate: Certificate | undefined;
  /** The hosted registry that it is by its name, and how a push sends layers there. */
  readonly knownAs: string | undefined;
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
  /** Whether a chunk was taken, and the smaller one that was refused before. Bytes. */
  readonly takesChunks: boolean | undefined;
  readonly refusedChunk: number | undefined;
  /**
   * The largest of the sizes tried that is not refused, and the smallest that is, with the text of the refusal. Bytes.
   */
  readonly largestBody: BodyLimit['largest'];
  readonly refusedBody: BodyLimit['refused'];
  /** Why the largest body was not found out. */
  readonly bodyProblem: string | undefined;
  /** Whether it says how far an upload has come, after a chunk. */
  readonly resumes: boolean | undefined;
  readonly referrers: boolean | undefined;
  /** Inputs that fit what was found, where the defaults do not. */
  readonly inputs: Readonly<Record<string, string>>;
  /** Why nothing more could be found out. */
  readonly problem: string | undefined;
}

/** What is known so far. */
export type Findings = { -readonly [Name in keyof Diagnosis]?: Diagnosis[Name] | undefined } & {
  reference: string;
  inputs: Record<string, string>;
};

/** What an examination needs of a request. */
export type ExamineOptions = Pick<
  RequestOptions,
  'credentials' | 'insecure' | 'ca' | 'tlsVerify' | 'env' | 'destinations'
>;

/** How a push treats a hosted registry, where it knows it by its name. */
export function knownAs(host: string): string | undefined {
  const { name, monolithic, chunkSize, smallestChunk } = profileFor(host);
  if (monolithic) return `${name}: a layer goes in one request`;
  if (chunkSize === undefined) return undefined;
  const least = smallestChunk === undefined ? '' : `${smallestChunk} to `;
  return `${name}: chunks of ${least}${chunkSize} bytes`;
}

interface Circumstances {
  /** Where the credentials came from. */
  readonly source: string | undefined;
  readonly options: ExamineOptions;
  /** What ended the examination before its time. */
  readonly failure: unknown;
}

export function diagnosisOf(
  findings: Findings,
  { origin, authScheme }: Pick<Examination, 'origin' | 'authScheme'>,
  circumstances: Circumstances,
): Diagnosis {
  const scheme = findings.scheme ?? (origin.protocol === 'https:' ? 'https' : 'http');
  return {
    certificate: undefined,
    knownAs: undefined,
    answers: [],
    roundTripMs: undefined,
    mayPush: false,
    announcedMin: undefined,
    announcedMax: undefined,
    takesChunks: undefined,
    refusedChunk: undefined,
    largestBody: undefined,
    refusedBody: undefined,
    bodyProblem: undefined,
    resumes: undefined,
    referrers: undefined,
    problem: contradiction(findings),
    ...(findings as Partial<Diagnosis>),
    reference: findings.reference,
    scheme,
    auth: authScheme ?? 'none',
    credentials: circumstances.source,
    inputs: inputsFor(findings, scheme, circumstances),
  };
}

/** Limits that leave no size for a chunk. */
function contradiction({ largestBody, refusedBody, announcedMin = 0 }: Findings): string | undefined {
  if (refusedBody === undefined || (largestBody !== undefined && largestBody >= announcedMin)) return undefined;
  const asked = announcedMin > 0 ? `, and the registry asks for chunks of at least ${announcedMin} bytes` : '';
  return `${STEP}: a body of ${refusedBody.bytes} bytes is refused (${refusedBody.reason})${asked}: raise the body limit of the proxy in front of the registry`;
}

function inputsFor(
  {
    certificate,
    largestBody = 0,
    refusedBody,
    takesChunks,
    announcedMin = 1,
    announcedMax = DEFAULT_CHUNK_SIZE,
  }: Findings,
  scheme: string,
  { source, options, failure }: Circumstances,
): Record<string, string> {
  const inputs: Record<string, string> = {};
  const usual = Math.min(announcedMax, DEFAULT_CHUNK_SIZE);
  if (refusedBody && takesChunks && largestBody >= announcedMin && largestBody < usual)
    inputs['chunk-size'] = String(largestBody);
  if (scheme === 'http' && (options.insecure || lacksTls(failure))) inputs.insecure = 'true';
  const distrust = certificate?.problem;
  if (distrust !== undefined && isOfUnknownAuthority(distrust))
    inputs['ca-file'] = 'the file of the authority that signed the certificate';
  else if (distrust !== undefined && !options.tlsVerify) inputs['tls-verify'] = 'false';
  const isRefused = failure instanceof RegistryError && (failure.kind === 'auth' || failure.kind === 'denied');
  if (isRefused && source === undefined) {
    inputs.username = 'a user who may push';
    inputs.password = 'a secret';
  }
  return inputs;
}
