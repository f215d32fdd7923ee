/**
 * Questions to a registry and what is in front of it, each by one request (two, where the first is refused for now):
 * how it answers, which bodies it takes, how far it says that an upload has come. Nothing is closed, so nothing is
 * stored; what was opened is deleted.
 */

import { Readable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { now } from '../common/async.ts';
import type { Credentials } from './auth/credentials.ts';
import type { Fate } from './body-limit.ts';
import type { TransportEvent } from './host/sender.ts';
import { Backoff } from './host/throttle.ts';
import { Transport } from './host/transport.ts';
import { errorOf, RegistryError, type ResponseHeaders } from './http/error.ts';
import { askedWait } from './http/error-body.ts';
import { Proxies } from './http/proxies.ts';
import { type Certificate, certificateOf, trustOf } from './http/trust.ts';
import { CookieJar, resolveLocation } from './upload/session.ts';

interface ExaminationOptions {
  /** `host[:port]` of an image reference. */
  readonly host: string;
  readonly repository: string;
  readonly insecure: boolean;
  readonly ca?: string | undefined;
  readonly tlsVerify: boolean;
  readonly credentials?: Credentials | undefined;
  readonly credentialProblems?: readonly string[] | undefined;
  readonly env: NodeJS.ProcessEnv;
  /** How long an answer is waited for, milliseconds: a person looks on, and a push would wait longer. */
  readonly answerMs: number;
  onEvent(event: TransportEvent): void;
}

/** An answer with what it took; `error` for every status but 2xx. */
export interface Examined {
  readonly status: number;
  readonly headers: ResponseHeaders;
  readonly ms: number;
  readonly error: RegistryError | undefined;
}

/** An upload that was opened for trying. */
export interface TrialUpload {
  readonly opened: Examined;
  /** Where it goes on; undefined when it was not opened. */
  location: URL | undefined;
  readonly cookies: CookieJar;
}

/** What the log calls it. */
export const STEP = 'examining the registry';

/** A registry that asks for a longer pause is not waited for. Milliseconds. */
const LONGEST_PAUSE_MS = 2000;

/** Before a second try where no pause is asked for. Milliseconds. */
const PAUSE_MS = 300;

/**
 * After a cancellation: how long the opening of an upload or its chunk goes on, and then how long its deletion may
 * take. The runner leaves a cancelled step a few seconds (action/run.ts). Milliseconds.
 */
const CLEAN_UP_MS = 2000;

/** Who reads on for this long takes the body. Milliseconds, beside some round trips. */
const READS_ON_MS = 400;
const ROUND_TRIPS = 5;

/** How long the sending of a complete body may take; on a slow link it is given up. Milliseconds. */
const SENDING_MS = 2000;

/** Parts of a body of zeros. Bytes. */
const PART_BYTES = 64 * 1024;

export class Examination {
  readonly #options: ExaminationOptions;
  readonly #transport: Transport;
  readonly #scopes: readonly string[];

  /** Nothing is sent yet. Throws as Transport does. */
  constructor(options: ExaminationOptions) {
    this.#options = options;
    const backoff = new Backoff({ maxWait: LONGEST_PAUSE_MS });
    const { answerMs } = options;
    const timeouts = { connect: answerMs, send: answerMs, header: answerMs, idle: answerMs };
    this.#transport = new Transport({ ...options, concurrency: 1, timeouts, backoff });
    this.#scopes = [`repository:${options.repository}:pull,push`];
  }

  /** The registry's address, its scheme as far as it is known. */
  get origin(): URL {
    return this.#transport.origin;
  }

  /** `basic`, `bearer`; undefined when it never asked. */
  get authScheme(): string | undefined {
    return this.#transport.authScheme;
  }

  /** Asks the API's root. Throws RegistryError when there is no answer. */
  ping(signal: AbortSignal): Promise<Examined> {
    return this.#ask('GET', '/v2/', signal, []);
  }

  /** Whether the referrers API is there. distribution-spec, "Listing Referrers". */
  async referrers(signal: AbortSignal): Promise<boolean> {
    const path = `/v2/${this.#options.repository}/referrers/sha256:${'0'.repeat(64)}`;
    const { status, headers } = await this.#ask('GET', path, signal, this.#scopes);
    return status === 200 && (headers['content-type'] ?? '').includes('json');
  }

  /**
   * Opens an upload in the repository; the caller removes it. A cancellation in the middle waits for the answer:
   * without its Location the upload could not be deleted.
   */
  async open(cancel: AbortSignal): Promise<TrialUpload> {
    const cookies = new CookieJar();
    const path = `/v2/${this.#options.repository}/blobs/uploads/`;
    const opened = await patiently(cancel, (signal) => this.#ask('POST', path, signal, this.#scopes, { cookies }));
    const location = opened.status === 202 ? resolveLocation(opened.headers.location, this.origin) : undefined;
    return { opened, location, cookies };
  }

  /**
   * Sends a body of zeros as the first chunk of an upload. It is short, and a cancellation lets it end: docker-registry
   * 2.8 does not delete an upload whose chunk broke off.
   */
  send(upload: TrialUpload, bytes: number, cancel: AbortSignal): Promise<Examined> {
    const request = { headers: chunkHeaders(bytes), body: new Uint8Array(bytes) };
    return patiently(cancel, (signal) => this.#go(upload, 'PATCH', signal, request));
  }

  /** Asks how far an upload has come. */
  status(upload: TrialUpload, signal: AbortSignal): Promise<Examined> {
    return this.#go(upload, 'GET', signal, {});
  }

  /**
   * What becomes of a chunk of this size at an upload that was deleted before: announces it, sends its first byte (all
   * of it with `isSent`), and looks what is answered. Limits refuse a request by its headers; who takes them says that
   * the upload is unknown, or reads on. (At an open upload the broken chunk would stay behind: docker-registry 2.8
   * can't delete it any more.)
   */
  async fate(
    deleted: TrialUpload,
    bytes: number,
    { isSent, roundTripMs, signal }: { isSent: boolean; roundTripMs: number; signal: AbortSignal },
  ): Promise<Fate> {
    const patience = new AbortController();
    const ms = (isSent ? SENDING_MS : READS_ON_MS) + ROUND_TRIPS * roundTripMs;
    const timer = setTimeout(() => patience.abort(), ms);
    const ended = AbortSignal.any([signal, patience.signal]);
    try {
      const open = () => Readable.from(isSent ? zeros(bytes) : firstByteOf(ended), { objectMode: false });
      const request = { headers: chunkHeaders(bytes), body: { size: bytes, open } };
      const { status, error } = await this.#go({ ...deleted }, 'PATCH', ended, request);
      return { is: 'answered', status, error };
    } catch (error) {
      signal.throwIfAborted();
      if (patience.signal.aborted) return { is: 'read' };
      if (error instanceof RegistryError && error.kind === 'reset') return { is: 'broken', reason: error.reason };
      throw error;
    } finally {
      clearTimeout(timer);
    }
  }

  /**
   * Deletes an upload, also after a cancellation. Never rejects: registries clear away forgotten ones by themselves.
   */
  async remove(upload: TrialUpload): Promise<void> {
    if (upload.location === undefined) return;
    const signal = AbortSignal.timeout(CLEAN_UP_MS);
    for (const method of ['DELETE', 'GET', 'DELETE']) {
      const answer = await this.#go(upload, method, signal, {}).catch(() => undefined);
      // distribution 3 answers 416 to the Location before a broken chunk, and a GET names the newest.
      if (method === 'DELETE' && answer?.status !== 416) return;
    }
  }

  /**
   * The certificate of the server, if it speaks TLS: also where requests are made without. Undefined behind a proxy,
   * which a connection of our own would pass by.
   */
  async certificate(signal: AbortSignal): Promise<Certificate | undefined> {
    const { host } = this.origin;
    if (new Proxies(this.#options.env).for(new URL(`https://${host}`)) !== undefined) return undefined;
    const trust = trustOf({ ...this.#options, tlsVerify: true }, () => {});
    return certificateOf(new URL(this.origin), trust, signal);
  }

  close(): Promise<void> {
    return this.#transport.close();
  }

  #ask(
    method: string,
    path: string,
    signal: AbortSignal,
    scopes: readonly string[],
    more: Partial<Parameters<Transport['send']>[0]> = {},
  ): Promise<Examined> {
    return this.#send({ method, url: new URL(path, this.origin), signal, scopes, ...more });
  }

  async #go(
    upload: TrialUpload,
    method: string,
    signal: AbortSignal,
    more: Pick<Parameters<Transport['send']>[0], 'headers' | 'body'>,
  ): Promise<Examined> {
    const url = upload.location;
    if (url === undefined) throw new Error('the upload was not opened');
    const answer = await this.#send({ method, url, signal, scopes: this.#scopes, cookies: upload.cookies, ...more });
    upload.location = resolveLocation(answer.headers.location, url) ?? url;
    return answer;
  }

  /** Answers that may be others soon get a second try, of a chunk only where it was certainly not taken. */
  async #send(request: Parameters<Transport['send']>[0]): Promise<Examined> {
    // A token that was not to be had is thrown.
    const first = await this.#sendOnce(request).catch((error: unknown) => {
      if (error instanceof RegistryError && error.kind === 'limited') return error;
      throw error;
    });
    const error = first instanceof RegistryError ? first : first.error;
    const mayRepeat = error?.kind === 'limited' || (error?.temporary === true && request.method !== 'PATCH');
    if (!mayRepeat || (askedWait(error.headers) ?? 0) > LONGEST_PAUSE_MS) {
      if (first instanceof RegistryError) throw first;
      return first;
    }
    await sleep(PAUSE_MS, undefined, { signal: request.signal });
    return this.#sendOnce(request);
  }

  async #sendOnce(request: Parameters<Transport['send']>[0]): Promise<Examined> {
    const began = now();
    const response = await this.#transport.send({ step: STEP, ...request });
    const { status, headers } = response;
    const ms = now() - began;
    const isRefused = status < 200 || status > 299;
    const error = isRefused ? await errorOf(response, { method: request.method, step: STEP }) : undefined;
    if (!isRefused) await response.discard();
    return { status, headers, ms, error };
  }
}

/**
 * Runs `work` with a signal that is aborted CLEAN_UP_MS after `cancel`. Throws the reason of a `cancel` that came
 * before.
 */
async function patiently<T>(cancel: AbortSignal, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
  cancel.throwIfAborted();
  const ended = new AbortController();
  let timer: NodeJS.Timeout | undefined;
  const onCancel = (): void => {
    timer = setTimeout(() => ended.abort(cancel.reason), CLEAN_UP_MS);
  };
  cancel.addEventListener('abort', onCancel, { once: true });
  try {
    return await work(ended.signal);
  } finally {
    clearTimeout(timer);
    cancel.removeEventListener('abort', onCancel);
  }
}

const chunkHeaders = (bytes: number) => ({
  'content-type': 'application/octet-stream',
  'content-range': `0-${bytes - 1}`,
});

function* zeros(bytes: number): Generator<Buffer> {
  const part = Buffer.alloc(PART_BYTES);
  for (let left = bytes; left > 0; left -= PART_BYTES) yield left < PART_BYTES ? part.subarray(0, left) : part;
}

/** One byte, and then nothing until the request ends. */
async function* firstByteOf(ended: AbortSignal): AsyncGenerator<Buffer> {
  yield Buffer.alloc(1);
  await new Promise((_, reject) => ended.addEventListener('abort', () => reject(ended.reason), { once: true }));
}
