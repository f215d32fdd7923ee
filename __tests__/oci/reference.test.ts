import { describe, expect, it } from 'vitest';
import { ImageError } from '../../src/common/error.ts';
import { formatReference, parseReference, sameReference, withDefaultTag, withTarget } from '../../src/oci/reference.ts';
import { randomBelow } from '../support/random.ts';

const HEX = 'a'.repeat(64);

describe('parseReference', () => {
  it.each([
    // text, registry, repository, tag, digest
    ['alpine', 'docker.io', 'library/alpine', undefined, undefined],
    ['alpine:3.20', 'docker.io', 'library/alpine', '3.20', undefined],
    ['me/app', 'docker.io', 'me/app', undefined, undefined],
    ['docker.io/alpine', 'docker.io', 'library/alpine', undefined, undefined],
    ['index.docker.io/library/alpine:1', 'docker.io', 'library/alpine', '1', undefined],
    ['registry-1.docker.io/me/app', 'docker.io', 'me/app', undefined, undefined],
    ['localhost/app', 'localhost', 'app', undefined, undefined],
    ['localhost:5000/app:1', 'localhost:5000', 'app', '1', undefined],
    ['ghcr.io/a/b/c/d:Tag_1.x-Y', 'ghcr.io', 'a/b/c/d', 'Tag_1.x-Y', undefined],
    ['host:5000/app', 'host:5000', 'app', undefined, undefined],
    ['REG.Example.com:443/app', 'reg.example.com:443', 'app', undefined, undefined],
    ['127.0.0.1:5055/fx:d20', '127.0.0.1:5055', 'fx', 'd20', undefined],
    ['[::1]:5000/a/b:1', '[::1]:5000', 'a/b', '1', undefined],
    ['[2001:db8::1]/a', '[2001:db8::1]', 'a', undefined, undefined],
    [`r.example/a@sha256:${HEX}`, 'r.example', 'a', undefined, `sha256:${HEX}`],
    [`r.example:1/a:t@sha256:${HEX}`, 'r.example:1', 'a', 't', `sha256:${HEX}`],
    ['r.example/a_b/c__d/e-f/g---h/i.j', 'r.example', 'a_b/c__d/e-f/g---h/i.j', undefined, undefined],
  ])('reads %s', (text, registry, repository, tag, digest) => {
    const reference = parseReference(text);
    expect([reference.registry, reference.repository, reference.tag, reference.digest]).toEqual([
      registry,
      repository,
      tag,
      digest,
    ]);
    expect(reference.lowered).toBe(false);
    expect(reference.apiHost).toBe(registry === 'docker.io' ? 'registry-1.docker.io' : registry);
    expect(parseReference(formatReference(reference))).toEqual(reference);
  });

  it('lowers the repository and says so, never the tag', () => {
    expect(parseReference('ghcr.io/MyOrg/App:V1')).toMatchObject({ repository: 'myorg/app', tag: 'V1', lowered: true });
    expect(parseReference('MyOrg/App')).toMatchObject({
      registry: 'docker.io',
      repository: 'myorg/app',
      lowered: true,
    });
  });

  it.each([
    ['', 'it is empty'],
    ['a b', 'a space'],
    ['a\u0000b', 'control character'],
    ['https://r.example/a:1', 'a URL'],
    ['r.example/a:', 'the tag ""'],
    ['r.example/a:-x', 'the tag "-x"'],
    [`r.example/a:${'x'.repeat(129)}`, 'the tag'],
    ['r.example/a@sha256:abc', 'the digest'],
    [`r.example/a@sha512:${'a'.repeat(128)}`, 'the digest'],
    [`r.example/a@sha256:${HEX.toUpperCase()}`, 'the digest'],
    [`r.example/a@sha256:${HEX}@sha256:${HEX}`, 'the digest'],
    ['r.example/', 'names no repository'],
    ['/a', 'the part ""'],
    ['r.example//a', 'the part ""'],
    ['r.example/a/', 'the part ""'],
    ['r.example/a..b', 'the part "a..b"'],
    ['r.example/../a', 'the part ".."'],
    ['r.example/_a', 'the part "_a"'],
    ['r.example/ä', 'the part "ä"'],
    ['-x/a', 'the part "-x"'],
    ['-h.example/a', 'not a host name'],
    ['r_x.example/a', 'not a host name'],
    ['host:0/a', 'the port "0"'],
    ['host:65536/a', 'the port "65536"'],
    ['host:x/a', 'the port "x"'],
    ['[::1/a', 'not a host name'],
    ['[::g]:5/a', 'not a host name'],
    ['::1/a', 'not a host name'],
    [HEX, 'an image ID'],
    [`sha256:${HEX}`, 'an image ID'],
    [`r.example/${'a'.repeat(250)}`, 'longer than 255'],
    ['a'.repeat(100_000), 'longer than 600'],
  ])('refuses %s', (text, problem) => {
    const failure = failureOf(text);
    expect(failure?.message).toContain(problem);
    expect(failure?.message).toContain(JSON.stringify(text).slice(0, 40));
    expect(failure?.remedy).toContain('registry.example.com/team/app:1.2');
    expect(failure?.step).toBe('Reference');
  });

  it('gives a reference or a named error for any text, and what it gives can be written and read again', () => {
    const random = randomBelow('references');
    const pieces = [
      'a',
      'B',
      'r.example',
      'localhost',
      ':',
      '/',
      '@',
      '.',
      '-',
      '_',
      '__',
      '[',
      ']',
      '::1',
      '5000',
      'sha256:',
      HEX,
      '\n',
      'é',
      '😀',
      '..',
    ];
    let read = 0;
    for (let round = 0; round < 20_000; round += 1) {
      const text = Array.from({ length: random(9) }, () => pieces[random(pieces.length)]).join('');
      if (failureOf(text)) continue;
      read += 1;
      const reference = parseReference(text);
      expect(parseReference(formatReference(reference))).toEqual({ ...reference, lowered: false });
    }
    expect(read).toBeGreaterThan(100);
  });
});

/** The error that a text ends in; undefined when it is a reference. Any other error fails the test. */
function failureOf(text: string): ImageError | undefined {
  try {
    parseReference(text);
    return undefined;
  } catch (error) {
    if (error instanceof ImageError) return error;
    throw error;
  }
}

describe('what is made of references', () => {
  it('gives the default tag only to what names nothing itself', () => {
    expect(withDefaultTag(parseReference('a/b')).tag).toBe('latest');
    expect(withDefaultTag(parseReference('a/b:1')).tag).toBe('1');
    expect(withDefaultTag(parseReference(`a/b@sha256:${HEX}`)).tag).toBeUndefined();
  });

  it('puts one target in the place of another', () => {
    const pinned = withTarget(parseReference('r.example/a:1'), { digest: `sha256:${HEX}` });
    expect(formatReference(pinned)).toBe(`r.example/a@sha256:${HEX}`);
  });

  it('knows the same image under two names', () => {
    expect(sameReference('fx:one', 'docker.io/library/fx:one')).toBe(true);
    expect(sameReference('fx', 'fx:latest')).toBe(true);
    expect(sameReference('localhost/fx:one', 'fx:one')).toBe(false);
    expect(sameReference('fx:one', 'not a name')).toBe(false);
  });
});
