/**
 * Whom TLS connections trust and what they show: the system's authorities, the input ca-file, Docker's and Podman's
 * certs.d.
 */

import { X509Certificate } from 'node:crypto';
import { getCACertificates, type SecureContextOptions } from 'node:tls';

const PEM = /-----BEGIN (?:TRUSTED )?CERTIFICATE-----[^-]+-----END (?:TRUSTED )?CERTIFICATE-----/g;

/** The client certificate that a registry may ask for, PEM. */
export interface ClientCertificate {
  readonly cert: string;
  readonly key: string;
}

export interface TrustOptions {
  /** Certificates (PEM) that are trusted besides Node's own and the system's. */
  readonly ca?: readonly string[] | undefined;
  readonly client?: ClientCertificate | undefined;
  /** False: any certificate is accepted. Default: true. */
  readonly verify?: boolean | undefined;
}

/**
 * Returns what every TLS connection is made with. Called by the first of them: plain HTTP never reads the system's
 * store.
 */
export type Trust = () => SecureContextOptions & { readonly rejectUnauthorized: boolean };

/** The trust of all TLS connections of one registry. */
export function trustIn({ ca = [], client, verify = true }: TrustOptions): Trust {
  let options: ReturnType<Trust> | undefined;
  return () => {
    options ??= { ca: trustedRoots(ca), ...client, rejectUnauthorized: verify };
    return options;
  };
}

/** These certificates besides Node's own and the system's (as for docker and curl), each once. */
export const trustedRoots = (own: readonly string[]): string[] => [
  ...new Set([...getCACertificates('default'), ...getCACertificates('system'), ...own]),
];

/** The largest file of certificates that is read: the authorities of a system have 220 KB. Bytes. */
export const MAX_CERTIFICATES_BYTES = 16 * 2 ** 20;

/**
 * The certificates of a file, in PEM: several of them in PEM, or one in DER. Throws Error when there is none, or one
 * that can't be read.
 */
export function certificatesIn(file: string | Uint8Array): string[] {
  const bytes = typeof file === 'string' ? Buffer.from(file) : Buffer.from(file);
  const pems = bytes.toString('latin1').match(PEM) ?? [];
  if (pems.length > 0) return pems.map((pem) => read(pem) && pem);
  // DER begins with an ASN.1 SEQUENCE.
  if (bytes[0] === 0x30) return [read(bytes).toString()];
  throw new Error('holds no certificate in PEM form (-----BEGIN CERTIFICATE-----) or DER form');
}

function read(certificate: string | Buffer): X509Certificate {
  try {
    return new X509Certificate(certificate);
  } catch (cause) {
    throw new Error('holds a certificate that can not be read', { cause });
  }
}
