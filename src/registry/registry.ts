/** One registry host for one push: its connections, its back-off, its capabilities, its open uploads. */
import type { Credentials } from './auth/credentials.ts';
import { HostCapabilities } from './host/capabilities.ts';
import type { HostContext, RegistryEvent } from './host/context.ts';
import { type Profile, profileFor } from './host/profiles.ts';
import type { TransportEvent } from './host/sender.ts';
import { Backoff, BodyScheduler, type Clock, DEFAULT_MAX_WAIT_MS } from './host/throttle.ts';
import { Transport } from './host/transport.ts';
import type { Timeouts } from './http/deadline.ts';
import { Repository } from './repository.ts';
import { OpenSessions } from './upload/open.ts';

export interface RegistryOptions {
  /** `host[:port]` of an image reference. */
  readonly host: string;
  /** Plain HTTP. A loopback host gets it anyway. */
  readonly insecure: boolean;
  /** PEM certificates that are trusted besides the default ones. */
  readonly ca?: string | undefined;
  /** False: any certificate is accepted, with a warning. Default: true. */
  readonly tlsVerify?: boolean | undefined;
  readonly credentials?: Credentials | undefined;
  /** Sources of credentials that could not be used: named when the registry refuses a request. */
  readonly credentialProblems?: readonly string[] | undefined;
  /** The registry that the inputs `username` and `password` are for, where it is another one: for remedies. */
  readonly inputsAreFor?: string | undefined;
  /** Connections at the same time, beside one for short requests. Default: 5. */
  readonly concurrency?: number | undefined;
  /** For HTTPS_PROXY, HTTP_PROXY, NO_PROXY and certs.d. */
  readonly env?: NodeJS.ProcessEnv | undefined;
  /** The largest request body, bytes; `auto`: what the registry announces, else 95 MiB. */
  readonly chunkSize: number | 'auto';
  /**
   * Failed tries in a row of one request that the registry answers with an error, without progress, before it fails for
   * good.
   */
  readonly maxRetries: number;
  /**
   * How long a registry that has answered before may be away, or ask to be left alone, without a byte of progress,
   * before a request fails for good: milliseconds, default 10 minutes. One that never answered is bounded by
   * `maxRetries`.
   */
  readonly maxWait?: number | undefined;
  /** Default: by host. */
  readonly profile?: Profile | undefined;
  /** In place of the usual time-outs, ms. */
  readonly timeouts?: Partial<Timeouts> | undefined;
  /** Time and chance; default: the system's. */
  readonly clock?: Clock | undefined;
  onEvent(event: RegistryEvent): void;
}

export class Registry {
  readonly host: string;
  readonly #transport: Transport;
  readonly #context: HostContext;
  readonly #sessions = new OpenSessions();
  readonly #repositories = new Map<string, Repository>();

  /** Nothing is sent yet. Throws when `ca` or the host can't be read. */
  constructor(options: RegistryOptions) {
    const {
      host,
      insecure,
      ca,
      tlsVerify,
      concurrency,
      credentials,
      credentialProblems,
      inputsAreFor,
      env,
      chunkSize,
      maxRetries,
      timeouts,
      clock,
    } = options;
    const maxWait = options.maxWait ?? DEFAULT_MAX_WAIT_MS;
    const onEvent = (event: RegistryEvent): void => options.onEvent(event);
    const backoff = new Backoff({ clock, maxWait });
    this.host = host;
    this.#transport = new Transport({
      host,
      insecure,
      ca,
      tlsVerify,
      concurrency,
      credentials,
      credentialProblems,
      inputsAreFor,
      env,
      backoff,
      timeouts,
      onEvent: (event) => onEvent(eventOf(event)),
    });
    this.#context = {
      transport: this.#transport,
      backoff,
      host: new HostCapabilities({ host, profile: options.profile ?? profileFor(host), chunkSize, onEvent }),
      bodies: new BodyScheduler(),
      maxRetries,
      maxWait,
      onEvent,
    };
  }

  /**
   * A repository by its name as in the reference (`library/x` for Docker Hub's short names). The same object each time.
   * `access`: what its tokens ask for.
   */
  repository(name: string, access: 'pull' | 'pull,push' = 'pull,push'): Repository {
    const key = `${name} ${access}`;
    const known = this.#repositories.get(key);
    if (known !== undefined) return known;
    const repository = new Repository(name, this.#context, this.#sessions, access);
    this.#repositories.set(key, repository);
    return repository;
  }

  /**
   * Opens `concurrency` + 1 connections, which requests then find ready; sends nothing. With a bearer challenge one
   * token is asked for the repositories that `repository` was called for and for those of `pull`, to read and mount
   * from.
   */
  connect(pull: readonly string[] = []): void {
    const known = [...this.#repositories.values()].flatMap(({ scopes }) => scopes);
    this.#transport.connect([...known, ...pull.map((name) => `repository:${name}:pull`)]);
  }

  /** The largest body (bytes) that this host was found, or announced, to take; undefined when nothing is known. */
  get limitFound(): number | undefined {
    return this.#context.host.limitFound;
  }

  /**
   * Deletes the uploads that are still open (2 s at most), then ends every connection, in the next turn of the event
   * loop: a process that ends before has them closed by the system, for less. Never rejects.
   */
  async close(): Promise<void> {
    await this.#sessions.close();
    setImmediate(() => void this.#transport.close().catch(() => {}));
  }
}

const eventOf = (event: TransportEvent): RegistryEvent =>
  event.type === 'debug' ? { type: 'debug', text: event.line } : event;
