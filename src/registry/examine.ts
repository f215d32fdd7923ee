/**
 * Questions to a registry and what is in front of it, each by one request and without a second try: how it answers,
 * which bodies it takes, how far it says that an upload has come. Nothing is closed, so nothing is stored; what was
 * opened is deleted.
 */

import { Readable } from 'node:stream';
import { connect } from 'node:tls';
import { now } from '../common/async.ts';
import type { Credentials } from './auth/credentials.ts';
import type { TransportEvent } from './host/sender.ts';
import { Transport } from './host/transport.ts';
import { errorOf, type RegistryError, type ResponseHeaders } from './http/error.ts';
import { trustedRoots } from './http/trust.ts';
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
  onEvent(event: TransportEvent): void;
}

/** An answer with what it took; `error` for every status but 2xx. */
export interface Examined {
  readonly status: number;
  readonly headers: ResponseHeaders;
  readonly ms: number;
  readonly error: RegistryError | undefined;
}

/** The server's certificate, as a connection beside ours shows it. */
export interface Certificate {
  readonly protocol: string;
  readonly subject: string;
  readonly issuer: string;
  readonly validTo: string;
  /** Why it is not trusted, as OpenSSL reports it; undefined when it is. */
  readonly problem: string | undefined;
}

/** An upload that was opened for trying. */
export interface TrialUpload {
  readonly opened: Examined;
  /** Where it goes on; undefined when it was not opened. */
  location: URL | undefined;
  readonly cookies: CookieJar;
}

/**
 * After a cancellation: how long the opening of an upload or its chunk goes on, and then how long its deletion may
 * take. The runner leaves a cancelled step a few seconds (action/run.ts). Milliseconds.
 */
const CLEAN_UP_MS = 2000;

/** Who reads on for this long takes the body. Milliseconds, beside some round trips. */
const READS_ON_MS = 400;
const ROUND_TRIPS = 5;

export class Examination {
  readonly #options: ExaminationOptions;
  readonly #transport: Transport;
  readonly #scopes: readonly string[];

  /** Nothing is sent yet. Throws as Transport does. */
  constructor(options: ExaminationOptions) {
    this.#options = options;
    this.#transport = new Transport({ ...options, concurrency: 1 });
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
   * Whether a chunk of this size would be refused for it: announces it at an upload that was deleted before, with its
   * first byte, and looks what is answered. Limits refuse a request by its headers; who takes them says that the upload
   * is unknown, or reads on. (At an open upload the broken chunk would stay behind: docker-registry 2.8 can't delete it
   * any more.) Returns the refusal.
   */
  async refusal(
    deleted: TrialUpload,
    bytes: number,
    roundTripMs: number,
    signal: AbortSignal,
  ): Promise<Examined | undefined> {
    const patience = new AbortController();
    const timer = setTimeout(() => patience.abort(), READS_ON_MS + ROUND_TRIPS * roundTripMs);
    const ended = AbortSignal.any([signal, patience.signal]);
    try {
      const body = { size: bytes, open: () => Readable.from(firstByteOf(ended), { objectMode: false }) };
      const answer = await this.#go({ ...deleted }, 'PATCH', ended, { headers: chunkHeaders(bytes), body });
      return answer.status === 413 ? answer : undefined;
    } catch (error) {
      signal.throwIfAborted();
      if (patience.signal.aborted) return undefined;
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
   * The certificate that a server of TLS shows to a connection of its own; undefined when there is no such connection.
   */
  certificate(signal: AbortSignal): Promise<Certificate | undefined> {
    const { hostname, port } = this.origin;
    const { ca } = this.#options;
    const servername = /^[\d.]+$|^\[/.test(hostname) ? undefined : hostname;
    return new Promise((resolve) => {
      const socket = connect({
        host: hostname.replace(/^\[|\]$/g, ''),
        port: Number(port || 443),
        ...(servername === undefined ? {} : { servername }),
        ca: trustedRoots(ca === undefined ? [] : [ca]),
        // It is looked at, and nothing is sent.
        rejectUnauthorized: false,
      });
      const stop = () => socket.destroy();
      signal.addEventListener('abort', stop, { once: true });
      socket.once('close', () => {
        signal.removeEventListener('abort', stop);
        resolve(undefined);
      });
      socket.on('error', () => resolve(undefined));
      socket.once('secureConnect', () => {
        const { subject, issuer, valid_to: validTo } = socket.getPeerCertificate();
        const problem = socket.authorized ? undefined : String(socket.authorizationError);
        resolve({
          protocol: socket.getProtocol() ?? 'TLS',
          subject: nameOf(subject),
          issuer: nameOf(issuer),
          validTo,
          problem,
        });
        socket.destroy();
      });
    });
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

  async #send(request: Parameters<Transport['send']>[0]): Promise<Examined> {
    const began = now();
    const response = await this.#transport.send({ step: 'examining the registry', ...request });
    const { status, headers } = response;
    const isRefused = status < 200 || status > 299;
    const error = isRefused ? await errorOf(response, { method: request.method, step: undefined }) : undefined;
    if (!isRefused) await response.discard();
    return { status, headers, ms: now() - began, error };
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

/** One byte, and then nothing until the request ends. */
async function* firstByteOf(ended: AbortSignal): AsyncGenerator<Buffer> {
  yield Buffer.alloc(1);
  await new Promise((_, reject) => ended.addEventListener('abort', () => reject(ended.reason), { once: true }));
}

const nameOf = (name: { readonly CN?: string | string[]; readonly O?: string | string[] } | undefined): string =>
  String(name?.CN ?? name?.O ?? 'no name');
