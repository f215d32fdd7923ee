/** Which certificate authorities are trusted: Node's own, the system's, and those of the input ca-file. */
import { X509Certificate } from 'node:crypto';
import { getCACertificates } from 'node:tls';

const PEM = /-----BEGIN (?:TRUSTED )?CERTIFICATE-----[^-]+-----END (?:TRUSTED )?CERTIFICATE-----/g;

/**
 * The certificates of `pem` and all that are trusted anyway; undefined, for Node's default, without `pem`.
 * Throws Error when there is no readable certificate in it.
 */
export function trustedRoots(pem: string | undefined): readonly string[] | undefined {
  if (pem === undefined) return undefined;
  const own = pem.match(PEM) ?? [];
  if (own.length === 0) throw new Error('holds no certificate in PEM form (-----BEGIN CERTIFICATE-----)');
  for (const certificate of own) assertReadable(certificate);
  return [...new Set([...getCACertificates('default'), ...getCACertificates('system'), ...own])];
}

function assertReadable(certificate: string): void {
  try {
    new X509Certificate(certificate);
  } catch (cause) {
    throw new Error('holds a certificate that can not be read', { cause });
  }
}
