/** A server's certificate, as a connection of its own shows it: nothing is sent over it. */

import { connect } from 'node:tls';
import type { Trust } from './trust.ts';

export interface Certificate {
  readonly protocol: string;
  readonly subject: string;
  readonly issuer: string;
  readonly validTo: string;
  /** Why it is not trusted, as OpenSSL reports it; undefined when it is. */
  readonly problem: string | undefined;
}

/** How long a handshake may take. Milliseconds. */
const HANDSHAKE_MS = 3000;

/**
 * Looks at the certificate of the server at an address. Undefined when there is no handshake: no connection, no TLS, or
 * a signal. Never rejects.
 */
export function certificateOf(
  { hostname, port }: URL,
  trust: Trust,
  signal: AbortSignal,
): Promise<Certificate | undefined> {
  const servername = /^[\d.]+$|^\[/.test(hostname) ? undefined : hostname;
  return new Promise((resolve) => {
    const socket = connect({
      host: hostname.replace(/^\[|\]$/g, ''),
      port: Number(port || 443),
      ...(servername === undefined ? {} : { servername }),
      ...trust(),
      // It is looked at, and nothing is sent.
      rejectUnauthorized: false,
    });
    const ended = AbortSignal.any([signal, AbortSignal.timeout(HANDSHAKE_MS)]);
    const stop = () => socket.destroy();
    ended.addEventListener('abort', stop, { once: true });
    socket.once('close', () => {
      ended.removeEventListener('abort', stop);
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

const nameOf = (name: { readonly CN?: string | string[]; readonly O?: string | string[] } | undefined): string =>
  String(name?.CN ?? name?.O ?? 'no name');
