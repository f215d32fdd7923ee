import { describe, expect, it } from 'vitest';
import { Proxies } from '../../../src/registry/http/proxies.ts';

const PROXY = 'http://proxy.example.com:3128';

const isProxied = (url: string, NO_PROXY: string): boolean =>
  new Proxies({ HTTPS_PROXY: PROXY, HTTP_PROXY: PROXY, NO_PROXY }).for(new URL(url)) !== undefined;

// As golang.org/x/net/http/httpproxy, which docker, podman and skopeo use.
describe('NO_PROXY', () => {
  it.each([
    ['*', 'https://r.test'],
    ['r.test', 'https://r.test'],
    ['r.test', 'https://a.r.test'],
    ['.r.test', 'https://a.r.test'],
    ['*.r.test', 'https://a.b.r.test'],
    ['R.Test.', 'https://r.test.'],
    ['a.test, r.test', 'https://r.test'],
    ['a.test r.test', 'https://r.test'],
    ['r.test:443', 'https://r.test'],
    ['r.test:5000', 'https://r.test:5000'],
    ['10.99.0.1', 'http://10.99.0.1:5000'],
    ['10.99.0.1:5000', 'http://10.99.0.1:5000'],
    ['10.0.0.0/8', 'https://10.1.2.3'],
    ['10.1.2.3/32', 'https://10.1.2.3'],
    ['0.0.0.0/0', 'https://8.8.8.8'],
    ['172.16.0.0/12', 'https://172.31.255.255:5000'],
    ['fd00::/8', 'https://[fd12:3456::1]:5000'],
    ['[fd00::]/8', 'https://[fd12:3456::1]'],
    ['2001:db8::1/128', 'https://[2001:db8:0:0::1]'],
    ['2001:db8::1', 'https://[2001:0db8::0001]'],
    ['[2001:db8::1]:5000', 'https://[2001:db8::1]:5000'],
    ['192.168.0.0/16,10.99.0.1/32', 'http://10.99.0.1'],
    ['10.0.0.0/8', 'https://[::ffff:10.1.2.3]'],
  ])('%s excepts %s', (list, url) => {
    expect(isProxied(url, list)).toBe(false);
  });

  it.each([
    ['', 'https://r.test'],
    [' , ,', 'https://r.test'],
    ['.r.test', 'https://r.test'],
    ['*.r.test', 'https://r.test'],
    ['r.test', 'https://my-r.test'],
    ['r.test', 'https://r.test.evil.org'],
    ['r.test:5000', 'https://r.test'],
    ['10.99.0.1:5000', 'http://10.99.0.1'],
    ['10.0.0.0/8', 'https://11.0.0.1'],
    ['10.1.2.3/32', 'https://10.1.2.4'],
    ['10.0.0.0/33', 'https://10.1.2.3'],
    ['10.0.0.0/', 'https://10.1.2.3'],
    ['10.0.0.0/8', 'https://10.example.com'],
    ['fd00::/8', 'https://[fe00::1]'],
    ['fd00::/8', 'https://10.0.0.1'],
    ['2001:db8::1', 'https://[2001:db8::2]'],
    ['[2001:db8::1]:5000', 'https://[2001:db8::1]'],
    ['1', 'https://10.0.0.1'],
  ])('%j does not except %s', (list, url) => {
    expect(isProxied(url, list)).toBe(true);
  });

  it('counts in either case; the one that is set counts', () => {
    const of = (env: NodeJS.ProcessEnv) => new Proxies({ HTTPS_PROXY: PROXY, ...env }).for(new URL('https://r.test'));
    expect(of({ no_proxy: 'r.test' })).toBeUndefined();
    expect(of({ no_proxy: '', NO_PROXY: 'r.test' })).toBeUndefined();
    expect(of({ no_proxy: 'other.test', NO_PROXY: 'r.test' })).toBeDefined();
  });
});

describe('a proxy', () => {
  const UNREADABLE = ['http://me:p#ss@proxy.test:3128', 'ftp://proxy.test', 'http://', 'http://proxy.test/path', '::'];

  it.each(UNREADABLE)('that is not needed is not read: %s', (value) => {
    const env = { HTTPS_PROXY: value, HTTP_PROXY: value, NO_PROXY: '.corp,10.0.0.0/8' };
    for (const url of ['https://localhost:5000', 'http://127.0.0.1:5000', 'https://r.corp', 'http://10.1.1.1']) {
      expect(new Proxies(env).for(new URL(url))).toBeUndefined();
    }
    // Only the other scheme has one.
    expect(new Proxies({ HTTP_PROXY: value }).for(new URL('https://r.test'))).toBeUndefined();
  });

  it.each(UNREADABLE)('that is needed and can not be read is an error that names the variable: %s', (value) => {
    expect(() => new Proxies({ https_proxy: value }).for(new URL('https://r.test'))).toThrow(
      'the environment variable https_proxy holds no address of a proxy',
    );
  });

  it.each([
    ['proxy.test:3128', { address: 'http://proxy.test:3128', username: '', password: '' }],
    ['http://proxy.test', { address: 'http://proxy.test' }],
    ['https://proxy.test:8443/', { address: 'https://proxy.test:8443' }],
    ['socks5://proxy.test:1080', { address: 'socks5://proxy.test:1080' }],
    ['socks5h://me:x@proxy.test:1080', { address: 'socks5://proxy.test:1080', username: 'me', password: 'x' }],
    ['http://me:p%23ss@proxy.test:3128', { username: 'me', password: 'p#ss' }],
    ['http://me:100%@proxy.test:3128', { username: 'me', password: '100%' }],
    ['http://[fd00::1]:3128', { address: 'http://[fd00::1]:3128' }],
  ])('%s is read', (value, wanted) => {
    expect(new Proxies({ HTTPS_PROXY: value }).for(new URL('https://r.test'))).toMatchObject(wanted);
  });

  it('has its password as a secret in every form in which it is written or sent, and not in its address', () => {
    const proxy = new Proxies({ HTTPS_PROXY: 'http://me:p%23ss@proxy.test:3128' }).for(new URL('https://r.test'))!;
    expect(proxy.secrets).toEqual(['p#ss', 'p%23ss', Buffer.from('me:p#ss').toString('base64')]);
    expect(proxy.address).not.toContain('me');
  });
});
