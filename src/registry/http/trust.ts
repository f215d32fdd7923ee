/** Which certificate authorities are trusted: Node's own, the system's (as for docker and curl), and those of the input ca-file. */
import { X509Certificate } from 'node:crypto';
import { createSecureContext, getCACertificates, type SecureContext } from 'node:tls';

const PEM = /-----BEGIN (?:TRUSTED )?CERTIFICATE-----[^-]+-----END (?:TRUSTED )?CERTIFICATE-----/g;

/** Gives the trust of all TLS connections, made when the first of them asks: reading the system's store takes tens of milliseconds. */
export type Trust = () => SecureContext;

/** The certificates of `pem` and all that are trusted anyway. Throws Error, at once, when there is no readable certificate in `pem`. */
export function trustIn(pem: string | undefined): Trust {
  const own = pem === undefined ? [] : certificatesIn(pem);
  let context: SecureContext | undefined;
  return () => {
    context ??= createSecureContext({ ca: trustedRoots(own) });
    return context;
  };
}

/** These certificates besides the default ones, each once. */
export const trustedRoots = (own: readonly string[]): string[] => [
  ...new Set([...getCACertificates('default'), ...getCACertificates('system'), ...own]),
];

/** The certificates in a PEM file. Throws Error when there is none, or one that can't be read. */
export function certificatesIn(pem: string): string[] {
  const certificates = pem.match(PEM) ?? [];
  if (certificates.length === 0) throw new Error('holds no certificate in PEM form (-----BEGIN CERTIFICATE-----)');
  for (const certificate of certificates) assertReadable(certificate);
  return certificates;
}

function assertReadable(certificate: string): void {
  try {
    new X509Certificate(certificate);
  } catch (cause) {
    throw new Error('holds a certificate that can not be read', { cause });
  }
}
