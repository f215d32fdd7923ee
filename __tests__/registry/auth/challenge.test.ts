import { describe, expect, it } from 'vitest';
import { type Challenge, mergeScopes, parseChallenges, scopesOf } from '../../../src/registry/auth/challenge.ts';
import { randomFrom } from '../../support/random.ts';

const plain = (challenges: Challenge[]) =>
  challenges.map(({ scheme, parameters, token68 }) => ({
    scheme,
    ...Object.fromEntries(parameters),
    ...(token68 === undefined ? {} : { token68 }),
  }));
const parse = (...headers: string[]) => plain(parseChallenges(headers));

describe('parseChallenges', () => {
  it('reads what registries send', () => {
    expect(parse('Basic')).toEqual([{ scheme: 'basic' }]);
    expect(parse('Basic realm="Registry Realm"')).toEqual([{ scheme: 'basic', realm: 'Registry Realm' }]);
    expect(
      parse(
        'Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push"',
      ),
    ).toEqual([
      {
        scheme: 'bearer',
        realm: 'https://auth.docker.io/token',
        service: 'registry.docker.io',
        scope: 'repository:a/b:pull,push',
      },
    ]);
  });

  it('takes scheme and names in any case, and space wherever the grammar has it', () => {
    expect(parse('BEARER  Realm = "r" ,\t SERVICE="s"  ,')).toEqual([{ scheme: 'bearer', realm: 'r', service: 's' }]);
  });

  it('takes several challenges in one header, and several headers', () => {
    const expected = [
      { scheme: 'basic', realm: 'a' },
      { scheme: 'bearer', realm: 'b', service: 'c' },
    ];
    expect(parse('Basic realm="a", Bearer realm="b", service="c"')).toEqual(expected);
    expect(parse('Basic realm="a"', 'Bearer realm="b", service="c"')).toEqual(expected);
    expect(parse('Negotiate, Basic realm="a"')).toEqual([{ scheme: 'negotiate' }, { scheme: 'basic', realm: 'a' }]);
  });

  it('keeps commas, equals signs and quotes inside quoted strings', () => {
    expect(parse('Bearer realm="say \\"hi\\", x=\\\\1",service="Basic realm=z"')).toEqual([
      { scheme: 'bearer', realm: 'say "hi", x=\\1', service: 'Basic realm=z' },
    ]);
  });

  it('takes token68', () => {
    expect(parse('Negotiate YWJj+/==, Basic realm=x')).toEqual([
      { scheme: 'negotiate', token68: 'YWJj+/==' },
      { scheme: 'basic', realm: 'x' },
    ]);
  });

  it('is patient: values without quotes, unclosed quotes, repeated names, unknown parameters, stray text', () => {
    expect(parse('Bearer realm=https://host/token?a=b,service=s')).toEqual([
      { scheme: 'bearer', realm: 'https://host/token?a=b', service: 's' },
    ]);
    expect(parse('Bearer realm="abc')).toEqual([{ scheme: 'bearer', realm: 'abc' }]);
    expect(parse('Bearer realm="a\\')).toEqual([{ scheme: 'bearer', realm: 'a\\' }]);
    expect(parse('Bearer realm="a",realm="b",error="x",n=1')).toEqual([
      { scheme: 'bearer', realm: 'a', error: 'x', n: '1' },
    ]);
    expect(parse(',, "?" stray="x", Basic realm="a"')).toEqual([{ scheme: 'basic', realm: 'a' }]);
    expect(parse('', '   ', ',')).toEqual([]);
  });

  it('gives back what was written, for any challenges (seeded)', () => {
    const random = randomFrom(20);
    const pick = <T>(from: readonly T[]): T => from[Math.floor(random() * from.length)]!;
    const word = (letters: string, least: number): string =>
      Array.from({ length: least + Math.floor(random() * 12) }, () => pick([...letters])).join('');
    const TOKEN = "abcXYZ019!#$%&'*+-.^_`|~";
    for (let round = 0; round < 2000; round++) {
      const expected: Record<string, string>[] = [];
      const written: string[] = [];
      for (let count = 1 + Math.floor(random() * 3); count > 0; count--) {
        const scheme = word(TOKEN, 1);
        const challenge: Record<string, string> = { scheme: scheme.toLowerCase() };
        const parts: string[] = [];
        for (let n = Math.floor(random() * 4); n > 0; n--) {
          const name = `p${n}${word(TOKEN, 0)}`;
          const quoted = random() < 0.7;
          const value = quoted ? word(`${TOKEN} ,="\\\t/:äé`, 0) : word(TOKEN, 1);
          challenge[name.toLowerCase()] = value;
          const equals = `${pick(['', ' '])}=${pick(['', ' ', '\t'])}`;
          parts.push(`${name}${equals}${quoted ? `"${value.replace(/["\\]/g, '\\$&')}"` : value}`);
        }
        written.push(parts.length === 0 ? scheme : `${scheme} ${parts.join(pick([',', ', ', ' , ,']))}`);
        expected.push(challenge);
      }
      const header = written.join(pick([', ', ',', ' , ']));
      expect(parse(header), header).toEqual(expected);
    }
  });

  it('ends for any bytes, without an error, and keeps its bounds (seeded)', () => {
    const random = randomFrom(4);
    const pieces = [
      'Basic',
      'Bearer ',
      'realm',
      '=',
      '==',
      '"',
      '\\',
      ',',
      ' ',
      '\t',
      'a',
      '/',
      ':',
      '\0',
      'ü',
      '😀',
      '~',
    ];
    for (let round = 0; round < 5000; round++) {
      const length = Math.floor(random() * 60);
      const header = Array.from({ length }, () => pieces[Math.floor(random() * pieces.length)]).join('');
      for (const { scheme, parameters, token68 = '' } of parseChallenges([header])) {
        expect(scheme.length).toBeGreaterThan(0);
        const kept = [...parameters].flat().join('').length + scheme.length + token68.length;
        expect(kept, header).toBeLessThanOrEqual(header.length);
      }
    }
  });

  it('takes no more than linear time for the longest header that a server can send', () => {
    const before = process.cpuUsage();
    for (const piece of ['a=', '"\\', 'a ', 'a,', '====', 'Basic ', 'Basic a===', ', ,']) {
      parseChallenges([piece.repeat(16_384 / piece.length)]);
    }
    // Of this process's own time, however busy the machine is.
    expect(process.cpuUsage(before).user).toBeLessThan(20_000_000);
  });
});

describe('mergeScopes', () => {
  it('joins the actions of a resource, in a fixed order', () => {
    expect(mergeScopes(['repository:b:push,pull'], ['repository:a:pull', 'repository:b:delete'])).toEqual([
      'repository:a:pull',
      'repository:b:delete,pull,push',
    ]);
  });

  it('keeps hosts with ports in resource names, and scopes that are no list', () => {
    expect(mergeScopes(['repository:host:5000/a:pull', 'aws', 'registry:catalog:*', 'aws'])).toEqual([
      'aws',
      'registry:catalog:*',
      'repository:host:5000/a:pull',
    ]);
  });
});

describe('scopesOf', () => {
  it('splits at spaces', () => {
    expect(scopesOf(' repository:a:pull  repository:b:push ')).toEqual(['repository:a:pull', 'repository:b:push']);
    expect(scopesOf(undefined)).toEqual([]);
  });
});
