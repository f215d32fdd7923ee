/** How each cell must end, and what it may cost: the claims that the matrix tests. */
import type { Cell } from './cell.ts';
import { CHUNK, CONFIG_BYTES, LAYER_BYTES } from './steps.ts';

export type ExpectedEnd = 'pushed' | 'failed';

/** Kinds that are answers, not accidents: at these steps they are the registry's last word. */
const LAST_WORDS: Readonly<Record<string, readonly string[]>> = {
  token: ['413 (HTML, early)', '416 bare', '403'],
  POST: ['413 (HTML, early)', '416 bare', '404', '403'],
  'PATCH, first': ['403'],
  'PATCH, middle': ['403'],
  // There is no sensible size below that of these bodies.
  'PATCH, last': ['413 (HTML, early)', '403'],
  'PUT, closing': ['413 (HTML, early)', '403'],
  'PUT, whole blob': ['413 (HTML, early)', '403'],
  'PUT manifest': ['413 (HTML, early)', '416 bare', '404', '403'],
};

/** Steps whose refusal never matters, and answers to them that say nothing, however often they come. */
const BYPASSED: Readonly<Record<string, RegExp>> = {
  'HEAD blob': /^413/,
  // A limit is the host's, and a POST without a mount would meet it too.
  'mount POST': /^(?!429)/,
  // 500 for ever is what broken sessions answer: a new one goes on.
  'GET status': /^(413|500)/,
};

export function expectedEnd({ target, step, kind }: Cell): ExpectedEnd {
  // GHCR's profile sends whole blobs until a limit is found; then there are chunks.
  if (target.name === 'ghcr' && step.name === 'PUT, whole blob' && kind.name === '413 (HTML, early)') return 'pushed';
  // A host that never answered may be a typo: it is not waited for.
  if (kind.outage !== undefined && step.name === 'HEAD blob' && /reset/.test(kind.name)) return 'failed';
  const name = step.like ?? step.name;
  if (kind.times === 'always') return BYPASSED[name]?.test(kind.name) === true ? 'pushed' : 'failed';
  return LAST_WORDS[name]?.includes(kind.name) === true ? 'failed' : 'pushed';
}

/** What may be sent again, in words and bytes. */
export interface Bound {
  readonly words: 'nothing' | 'the request' | 'the session' | 'the session and two chunks';
  readonly bytes: number;
}

/** After these the registry has taken the request: only the answer was lost. */
const TAKEN = /, taken$|^answer (lost|cut)$/;

/** Bytes of the request that is hit, and of those that went before in its session. */
const REQUEST: Readonly<Record<string, readonly [body: number, before: number]>> = {
  'PATCH, first': [CHUNK, 0],
  'PATCH, middle': [CHUNK, CHUNK],
  'PATCH, last': [LAYER_BYTES - 2 * CHUNK, 2 * CHUNK],
  'GET status': [CHUNK, CHUNK],
  'PUT, closing': [0, LAYER_BYTES],
};

function requestOf({ target, step }: Cell): readonly [body: number, before: number] {
  if (step.name === 'PUT, whole blob') return [target.afterBreak === 'whole' ? LAYER_BYTES : CONFIG_BYTES, 0];
  if (step.name === 'PUT, closing' && target.name === 'ecr') return [LAYER_BYTES - 2 * CHUNK, 2 * CHUNK];
  return REQUEST[step.name] ?? [0, 0];
}

/** What ECR says of a session does not tell whether a chunk was stored, and nobody can ask about the last one, which goes in the PUT. */
function losesOnEcr({ step, kind }: Cell): boolean {
  if (step.name === 'PUT, closing') return !TAKEN.test(kind.name) && !/^(429|401|slow)/.test(kind.name);
  return step.name === 'GET status' || (step.name === 'PATCH, middle' && !/^(429|503|401|slow)/.test(kind.name));
}

/** Whether the session is given up, or lost with the request. */
function losesSession(cell: Cell): boolean {
  const { target, step, kind } = cell;
  if (target.name === 'ecr' && losesOnEcr(cell)) return true;
  if (step.name === 'GET status') return /^(404|403|413|416|500, always)/.test(kind.name);
  if (step.step !== 'upload-patch') return false;
  if (/^(404|413)/.test(kind.name)) return true;
  if (kind.name === 'cut in the body') return target.afterBreak === 'lost';
  // distribution 2.8 knows a session by its newest state alone, which went away with the answer.
  return TAKEN.test(kind.name) && /^(distribution2|docker-registry)$/.test(target.name);
}

/**
 * Gitea goes on saying 204 to GET and 500 to every chunk: two of them prove that the session is broken. Quay's 416 names one
 * byte too many: what is sent after it is refused until the session is given up. docker-registry may still say 204 to GET while
 * it has not noticed that the connection is gone.
 */
const misleads = ({ target, step, kind }: Cell): boolean =>
  step.step === 'upload-patch' &&
  ((/^(gitea|docker-registry)$/.test(target.name) && kind.name === 'cut in the body') ||
    (target.name === 'quay' && kind.name === '416 with Location and Range'));

/** The most that a cell may send again. */
export function boundOf(cell: Cell): Bound {
  const { step, kind } = cell;
  const [body, before] = requestOf(cell);
  // The next request goes onto a connection that is gone.
  if (kind.unused !== undefined)
    return { words: 'the request', bytes: cell.target.afterBreak === 'whole' ? LAYER_BYTES : CHUNK };
  if (misleads(cell)) return { words: 'the session and two chunks', bytes: body + before + 2 * CHUNK };
  if (losesSession(cell)) return { words: 'the session', bytes: body + before };
  // The fault that leads to the question costs its chunk, whatever befalls the question.
  const free = step.name !== 'GET status' && (TAKEN.test(kind.name) || kind.name === 'slow');
  return free || body === 0 ? { words: 'nothing', bytes: 0 } : { words: 'the request', bytes: body };
}
