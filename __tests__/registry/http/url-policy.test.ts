import { describe, expect, it } from 'vitest';
import { apiHost } from '../../../src/oci/reference.ts';
import { isLinkLocal, isLoopback, safeUrl, unsafeTarget } from '../../../src/registry/http/url-policy.ts';

const url = (text: string): URL => new URL(text);

describe('isLoopback', () => {
  it.each([
    '127.0.0.1',
    '127.9.8.7:5000',
    'localhost',
    'LOCALHOST.',
    'a.localhost',
    '[::1]:5',
    '[::ffff:127.0.0.1]',
    '2130706433',
    '0.0.0.0',
  ])('knows %s', (host) => expect(isLoopback(url(`http://${host}`))).toBe(true));
  it.each(['128.0.0.1', 'localhost.evil.org', 'mylocalhost', '[::2]', '127.0.0.1.nip.io', '10.0.0.1'])(
    'leaves %s',
    (host) => expect(isLoopback(url(`http://${host}`))).toBe(false),
  );
});

describe('isLinkLocal', () => {
  it.each([
    '169.254.169.254',
    '[fe80::1]',
    '[febf::1]',
    '[::ffff:169.254.1.1]',
    '0xa9fea9fe',
    '[fd00:ec2::254]',
    '[64:ff9b:1::a9fe:a9fe]',
    '[::ffff:0:a9fe:a9fe]',
    '[::169.254.169.254]',
    '[2002:a9fe:a9fe::1]',
  ])('knows %s', (host) => expect(isLinkLocal(url(`http://${host}`))).toBe(true));
  it.each(['169.253.1.1', '[fec0::1]', '192.168.1.1', 'metadata.example.com'])('leaves %s', (host) =>
    expect(isLinkLocal(url(`http://${host}`))).toBe(false),
  );
});

describe('unsafeTarget', () => {
  it.each([
    ['https://r.test', 'https://r.test/x', undefined],
    ['https://r.test', 'https://cdn.test/x', undefined],
    ['https://r.test', 'https://10.0.0.8/x', undefined],
    ['http://r.test', 'http://cdn.test/x', undefined],
    ['http://127.0.0.1:5000', 'http://127.0.0.1:5001/x', undefined],
    ['https://127.0.0.1:5000', 'https://localhost/x', undefined],
    ['http://127.0.0.1', 'http://[::1]:7/', undefined],
    ['https://r.test', 'http://r.test/x', 'leaves HTTPS for plain HTTP'],
    ['https://r.test', 'http://127.0.0.1/x', 'leaves HTTPS for plain HTTP'],
    ['https://r.test', 'https://localhost/x', 'is a loopback address'],
    ['http://r.test', 'http://127.1/x', 'is a loopback address'],
    ['https://r.test', 'https://169.254.169.254/', 'is a link-local address'],
    ['http://127.0.0.1', 'http://169.254.169.254/', 'is a link-local address'],
    ['https://r.test', 'https://u@r.test/', 'carries a user name or password'],
    ['https://r.test', 'file:///etc/passwd', 'has the scheme file:'],
    // A registry that is itself there was chosen by the user.
    ['https://169.254.1.1', 'https://169.254.1.1/x', undefined],
  ])('from %s to %s: %s', (registry, target, objection) => {
    expect(unsafeTarget(url(registry), url(target))).toBe(objection);
  });
});

describe('safeUrl', () => {
  it('keeps what helps, and leaves out what may be secret', () => {
    expect(
      safeUrl(url('https://u:p@r.test:8443/v2/a/blobs/uploads/7?digest=sha256:ab&_state=SECRET&mount=x&from=b%2Fc#f')),
    ).toBe('https://r.test:8443/v2/a/blobs/uploads/7?digest=sha256:ab&_state=…&mount=x&from=b/c');
    expect(safeUrl(url('file:///etc/passwd'))).toBe('file:///etc/passwd');
    expect(safeUrl(url('https://r2.test/x?X-Amz-Signature=SECRET&X-Amz-Credential=SECRET'))).toBe(
      'https://r2.test/x?X-Amz-Signature=…&X-Amz-Credential=…',
    );
  });

  it('gives no line breaks and no escape codes to a log', () => {
    expect(safeUrl(url('https://r.test/?digest=a%0A::error::b%1b[31m'))).not.toMatch(/[\x00-\x1f]/);
  });
});

describe('apiHost', () => {
  it("is another one for Docker Hub's names only", () => {
    expect(['docker.io', 'index.docker.io', 'registry.hub.docker.com', 'registry-1.docker.io'].map(apiHost)).toEqual(
      Array(4).fill('registry-1.docker.io'),
    );
    expect(apiHost('Docker.io.evil.org:5')).toBe('docker.io.evil.org:5');
  });
});
