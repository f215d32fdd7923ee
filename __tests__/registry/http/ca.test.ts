import { readFileSync } from 'node:fs';
import { rootCertificates } from 'node:tls';
import { describe, expect, it } from 'vitest';
import { certificatesIn, trustedRoots } from '../../../src/registry/http/trust.ts';

const PEM = readFileSync(new URL('../../fixtures/tls/ca.pem', import.meta.url), 'utf8');

describe('trustedRoots', () => {
  it('adds to what is trusted anyway', () => {
    const roots = trustedRoots(certificatesIn(`# our own\n${PEM}`));
    expect(roots.at(-1)!.trim()).toBe(PEM.trim());
    expect(roots).toEqual(expect.arrayContaining([rootCertificates[0]]));
    expect(trustedRoots(certificatesIn(PEM + PEM))).toHaveLength(roots.length);
    expect(trustedRoots([])).toHaveLength(roots.length - 1);
  });

  it.each([
    ['', 'holds no certificate'],
    ['-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----', 'holds no certificate'],
    ['-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----', 'holds a certificate that can not be read'],
  ])('says what is wrong with %j', (pem, words) => {
    expect(() => certificatesIn(pem)).toThrow(words);
  });
});
