/** Upload sessions over HTTP. distribution-spec v1.1, sections "Pushing blobs" and "Mounting a blob from another repository". */
import { type Answer, answer, refusal, withHeaders } from './answer.ts';
import { drain, type Exchange } from './exchange.ts';
import { type Desk, firstAnswer, type Handler } from './handler.ts';
import { BrokenBodyError, type Session } from './session.ts';
import type { Step } from './steps.ts';

/** How long GET of a session waits for a PATCH whose connection was just cut to be noticed (ms). */
const SETTLING_MS = 250;

const DIGEST = /^sha256:[0-9a-f]{64}$/;
const CONTENT_RANGE = /^(\d+)-(\d+)$/;

/** An answer about a session: where it is, how far it is. */
function about(status: number, session: Session, exchange: Exchange, desk: Desk): Answer {
  const range = desk.habits.range(session.size, exchange);
  return withHeaders(answer(status), {
    Location: desk.habits.location(session, exchange),
    'Docker-Upload-UUID': session.id,
    ...(range === undefined ? {} : { Range: range }),
  });
}

/** The 416 to a chunk that does not fit, with or without what the client needs to go on. */
export function unfitting(session: Session, exchange: Exchange, desk: Desk, message = 'out of order'): Answer {
  const error = refusal(416, 'BLOB_UPLOAD_INVALID', message);
  if (!desk.habits.explains416) return error;
  return withHeaders(error, about(416, session, exchange, desk).headers);
}

const blobMade = (repository: string, digest: string): Answer =>
  answer(201, { Location: `/v2/${repository}/blobs/${digest}`, 'Docker-Content-Digest': digest });

async function post(exchange: Exchange, desk: Desk): Promise<Answer> {
  const digest = exchange.query.get('digest');
  const session = await desk.store.open(exchange.route.repository);
  if (digest !== null && desk.habits.takesPostDigest) return finish(exchange, desk, session, digest);
  await drain(exchange);
  return about(202, session, exchange, desk);
}

async function mount(exchange: Exchange, desk: Desk): Promise<Answer> {
  const digest = exchange.query.get('mount') ?? '';
  const from = exchange.query.get('from') ?? '';
  if ((await desk.store.blobSize(from, digest)) === undefined) return post(exchange, desk);
  const repository = desk.store.repository(exchange.route.repository);
  if (!repository.blobs.has(digest)) repository.mounted.set(digest, from);
  repository.blobs.add(digest);
  return blobMade(exchange.route.repository, digest);
}

/** Whether a Content-Range lies about where the chunk begins or how long it is. */
function misplaced(exchange: Exchange, session: Session): boolean {
  const header = exchange.headers['content-range'];
  if (header === undefined) return false;
  const match = CONTENT_RANGE.exec(header);
  if (match === null) return true;
  const [start, end] = [Number(match[1]), Number(match[2])];
  return start !== session.size || (exchange.length !== undefined && end - start + 1 !== exchange.length);
}

async function refuseChunk(exchange: Exchange, session: Session, desk: Desk): Promise<Answer | undefined> {
  if (session.fate !== 'open') return refusal(500, 'UNKNOWN', 'unknown error');
  const refused = await firstAnswer(desk.quirks, (quirk) => quirk.chunk?.(exchange, session, desk));
  if (refused !== undefined) return refused;
  if (desk.habits.checksContentRange && misplaced(exchange, session)) return unfitting(session, exchange, desk);
  return undefined;
}

/** Appends the body; when it breaks, the session fares as this registry has it. */
async function append(exchange: Exchange, session: Session, desk: Desk): Promise<number> {
  try {
    return await session.append(exchange.body(), desk.habits.afterBreak);
  } catch (cause) {
    if (desk.habits.brokenSession === 'gone') await desk.store.drop(session);
    if (desk.habits.brokenSession === 'poisoned') session.fate = 'poisoned';
    throw cause;
  }
}

/** Finds the session of a request and runs the work alone on it. */
async function withSession(
  exchange: Exchange,
  desk: Desk,
  work: (session: Session) => Promise<Answer>,
): Promise<Answer> {
  const find = () => {
    const found = desk.store.sessions.get(exchange.route.reference);
    return found?.repository === exchange.route.repository ? found : undefined;
  };
  const session = find();
  if (session === undefined) return desk.habits.unknownSession(exchange);
  return session.exclusively(async () => (find() === undefined ? desk.habits.unknownSession(exchange) : work(session)));
}

const patch: Handler = (exchange, desk) =>
  withSession(exchange, desk, async (session) => {
    const refused = await refuseChunk(exchange, session, desk);
    if (refused !== undefined) return refused;
    session.parts.push(await append(exchange, session, desk));
    return about(desk.habits.patchStatus, session, exchange, desk);
  });

const put: Handler = (exchange, desk) =>
  withSession(exchange, desk, async (session) => finish(exchange, desk, session, exchange.query.get('digest') ?? ''));

async function finish(exchange: Exchange, desk: Desk, session: Session, digest: string): Promise<Answer> {
  if (!DIGEST.test(digest)) return refusal(400, 'DIGEST_INVALID', 'the digest is missing or not of a known form');
  const refused = await refuseChunk(exchange, session, desk);
  if (refused !== undefined) return refused;
  if (desk.habits.takesLastChunkInPut || session.parts.length === 0) await append(exchange, session, desk);
  else await drain(exchange);
  const unclosed = await firstAnswer(desk.quirks, (quirk) => quirk.close?.(exchange, session, desk));
  if (unclosed !== undefined) return unclosed;
  if (session.digest !== digest) return desk.habits.wrongDigest(session, desk.store);
  await desk.store.commit(session, digest);
  return blobMade(session.repository, digest);
}

const status: Handler = async (exchange, desk) => {
  await desk.store.sessions.get(exchange.route.reference)?.settled(SETTLING_MS);
  const session = desk.store.sessions.get(exchange.route.reference);
  return session === undefined ? desk.habits.unknownSession(exchange) : about(204, session, exchange, desk);
};

const cancel: Handler = async (exchange, desk) => {
  const session = desk.store.sessions.get(exchange.route.reference);
  if (session === undefined) return desk.habits.unknownSession(exchange);
  await desk.store.drop(session);
  return answer(204);
};

/** Whether an error means that the client did not send all of its body. */
export const isBroken = (cause: unknown): boolean => cause instanceof BrokenBodyError;

export const uploadHandlers: Partial<Record<Step, Handler>> = {
  'upload-post': post,
  'upload-mount': mount,
  'upload-patch': patch,
  'upload-put': put,
  'upload-get': status,
  'upload-delete': cancel,
};
