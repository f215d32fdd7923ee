/**
 * The lines of a push: one when the first bytes of a blob go, at most one of progress every few seconds, one when it
 * ends. And those of a diagnosis.
 */
import { now as clock } from '../common/async.ts';
import { oneLine, printable } from '../common/printable.ts';
import type { Diagnosis } from '../push/diagnosis.ts';
import type { PushEvent } from '../push/events.ts';
import { formatBytes, formatMilliseconds, formatSeconds, plural } from './format.ts';
import { Progress } from './progress.ts';

/** Shows that the push goes on; more lines would bury what matters. Milliseconds. */
const PROGRESS_EVERY_MS = 5000;

export interface Line {
  readonly level: 'debug' | 'info' | 'notice' | 'warning';
  readonly text: string;
}

const OUTCOMES = {
  uploaded: 'uploaded',
  exists: 'exists already',
  mounted: 'mounted from another repository',
} as const;

export class EventLines {
  readonly #progress: Progress;
  readonly #now: () => number;
  readonly #showHost: boolean;
  /** Blobs of which no byte has been sent: many of them turn out to be there already. */
  readonly #waiting = new Set<string>();
  #lastLineAt: number;
  #lastProgress = '';

  /** `showHost`: several registries are pushed to, so each line says which. `now` returns milliseconds. */
  constructor(options: { showHost: boolean; now?: () => number }) {
    this.#now = options.now ?? clock;
    this.#showHost = options.showHost;
    this.#progress = new Progress(this.#now);
    this.#lastLineAt = this.#now();
  }

  /** The lines that an event is worth, mostly none or one. */
  of(event: PushEvent): Line[] {
    this.#progress.note(event);
    const line = this.#lineOf(event) ?? this.#startLine(event);
    // Text of registries, archives and helpers is part of it.
    if (line) return [{ level: line.level, text: printable(line.text) }];
    return event.type === 'blob-progress' || event.type === 'made' ? this.#progressLine() : [];
  }

  #startLine(event: PushEvent): Line | undefined {
    if (event.type === 'blob-start') this.#waiting.add(`${event.host} ${event.label}`);
    if (event.type !== 'blob-progress' || event.sent === 0) return undefined;
    if (!this.#waiting.delete(`${event.host} ${event.label}`)) return undefined;
    return { level: 'info', text: `${this.#name(event)}: ${startText(event.size)}` };
  }

  #progressLine(): Line[] {
    if (this.#now() - this.#lastLineAt < PROGRESS_EVERY_MS) return [];
    this.#lastLineAt = this.#now();
    const text = this.#progress.line();
    if (text === this.#lastProgress) return [];
    this.#lastProgress = text;
    return [{ level: 'info', text }];
  }

  #lineOf(event: PushEvent): Line | undefined {
    switch (event.type) {
      case 'debug':
      case 'info':
      case 'notice':
      case 'warning':
        return { level: event.type, text: event.text };
      case 'blob-end':
        this.#waiting.delete(`${event.host} ${event.label}`);
        return { level: 'info', text: `${this.#name(event)}: ${endText(event)}` };
      case 'retry':
        return { level: event.waiting === true ? 'debug' : 'info', text: `${this.#name(event)}: ${retryText(event)}` };
      case 'waiting':
        return { level: 'info', text: waitingLine(event) };
      case 'resumed':
        return { level: 'info', text: `${event.host} answers again after ${formatSeconds(event.waitedMs / 1000)}` };
      case 'limit':
        return { level: 'info', text: limitText(event) };
      default:
        return undefined;
    }
  }

  #name({ label, host }: { label: string; host: string }): string {
    return this.#showHost ? `${label} at ${host}` : label;
  }
}

const startText = (size: number | undefined): string =>
  size === undefined ? 'uploading while it is read' : `uploading ${formatBytes(size)}`;

function endText(event: Extract<PushEvent, { type: 'blob-end' }>): string {
  const parts = [`${OUTCOMES[event.fate]}, ${formatBytes(event.size)}`];
  if (event.fate === 'uploaded') parts.push(`in ${formatSeconds(event.seconds)}`);
  if (event.retries > 0) parts.push(`(${plural(event.retries, 'retry', 'retries')})`);
  if (event.fromCache) parts.push('(from the cache)');
  return parts.join(' ');
}

const retryText = ({ reason, attempt, waitMs }: Extract<PushEvent, { type: 'retry' }>): string =>
  `try ${attempt} failed: ${reason}; again in ${formatSeconds(waitMs / 1000)}`;

/** With the time of day (UTC, as the runner's log has it) until when it is waited for. */
function waitingLine({ host, reason, limited, maxWaitMs }: Extract<PushEvent, { type: 'waiting' }>): string {
  const until = new Date(Date.now() + maxWaitMs).toISOString().slice(11, 19);
  const most = `until ${until} UTC at most (max-wait)`;
  return `${host} ${limited ? 'asks for fewer requests' : 'cannot be reached'}, waiting for it ${most}: ${reason}`;
}

const limitText = ({ host, bytes, announced, by }: Extract<PushEvent, { type: 'limit' }>): string => {
  const size = sizeOf(bytes);
  if (announced) return `${host} takes requests of at most ${size}, as it announces`;
  return by === 'time'
    ? `larger requests to ${host} break or take too long: chunks of ${size} from now on (chunk-size: ${bytes} sets it from the start)`
    : `${host} refuses larger requests: chunks of ${size} from now on`;
};

// A diagnosis in about ten lines.

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
