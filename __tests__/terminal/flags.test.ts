import { describe, expect, it } from 'vitest';
import { parseFlags, UsageError } from '../../src/terminal/flags.ts';
import { USAGE } from '../../src/terminal/help.ts';

describe('parseFlags', () => {
  it('takes an image alone', () => {
    expect(parseFlags(['app:1'])).toMatchObject({
      inputs: { image: 'app:1', tags: '', cache: 'true', insecure: 'false', 'dry-run': 'false' },
      passwordFromStdin: false,
      json: false,
      verbose: false,
      show: undefined,
    });
  });

  it('takes every flag, several destinations, and values with or without =', () => {
    const args = ['--to', 'r.example.com/a:1', '--to=r.example.com/b:1', '--chunk-size=10MB', '--concurrency', '2'];
    const flags = ['--no-cache', '--cache-from', 'r.example.com/a:0', '--insecure', '--dry-run', '--json', '--verbose'];
    expect(parseFlags([...args, 'app:1', ...flags, '--password-stdin'])).toMatchObject({
      inputs: {
        image: 'app:1',
        tags: 'r.example.com/a:1\nr.example.com/b:1',
        'chunk-size': '10MB',
        concurrency: '2',
        cache: 'false',
        'cache-from': 'r.example.com/a:0',
        insecure: 'true',
        'dry-run': 'true',
      },
      passwordFromStdin: true,
      json: true,
      verbose: true,
    });
  });

  it('takes several images, and the references of a merge', () => {
    expect(parseFlags(['--image', 'a:1', '--image', 'b:1']).inputs).toMatchObject({ image: 'a:1\nb:1', merge: '' });
    expect(parseFlags(['--merge', 'a:1', 'a:2', '--to', 'a:3', '--merge-cleanup']).inputs).toMatchObject({
      image: '',
      merge: 'a:1\na:2',
      tags: 'a:3',
      'merge-cleanup': 'true',
    });
    expect(parseFlags(['a:1', '--annotations', 'x=1', '--annotations', 'y=2']).inputs.annotations).toBe('x=1\ny=2');
  });

  it.each([[[]], [['a', 'b']], [['a', '--nope']], [['a', '--to']], [['a', '--json=yes']], [['a', '--password', 'x']]])(
    'refuses %j',
    (args) => {
      expect(() => parseFlags(args)).toThrow(UsageError);
    },
  );

  it.each([
    [['a', '--nope'], 'there is no flag --nope'],
    [['a', '-x'], 'there is no flag -x'],
    [['a', '--tags', 'b:1'], 'there is no flag --tags: write --to for each tag'],
    [['a', '-t', 'b:1'], 'there is no flag -t: write --to for each tag'],
    [['a', '--password=secret'], /^there is no flag --password: .*--password-stdin$/],
    [['a', '--toString'], 'there is no flag --toString'],
  ])('says of %j what to write', (args, message) => expect(() => parseFlags(args)).toThrow(message));

  it('takes either the password or the image from standard input', () => {
    for (const image of ['docker-archive:-', 'oci-archive:-:v1', 'docker-archive:/dev/stdin'])
      expect(() => parseFlags([image, '--to', 'r.example.com/a:1', '--password-stdin'])).toThrow(/^standard input is/);
    expect(parseFlags(['docker-archive:-', '--to', 'r.example.com/a:1']).passwordFromStdin).toBe(false);
    expect(parseFlags(['docker-archive:-x', '--to', 'r.example.com/a:1', '--password-stdin'])).toBeDefined();
  });

  it.each([
    'registry.example.com',
    'registry.example.com/',
    'localhost:5000',
    'registry:5000',
    '[::1]:5000',
    '10.0.0.1',
  ])('doctor takes no registry alone: %s', (name) =>
    expect(() => parseFlags(['doctor', name])).toThrow(/is a registry alone: .*\/team\/app$/),
  );

  it.each(['app', 'team/app', 'localhost:5000/app', 'registry.example.com/app', '[::1]:5000/app:1'])(
    'doctor takes %s',
    (name) => expect(parseFlags(['doctor', name])).toMatchObject({ doctor: true, inputs: { image: name } }),
  );

  it('needs no image to show its usage or version', () => {
    expect(parseFlags(['--help']).show).toBe('usage');
    expect(parseFlags(['-h', '--version']).show).toBe('usage');
    expect(parseFlags(['--version']).show).toBe('version');
  });
});

describe('the usage', () => {
  it('fits a terminal of 80 columns', () => {
    for (const line of USAGE.split('\n')) expect(line.length).toBeLessThan(80);
  });

  it('tells every flag that there is', () => {
    for (const [flag] of USAGE.matchAll(/--[a-z-]+/g)) {
      const takesNone = () => parseFlags(['app', flag]);
      const takesOne = () => parseFlags(['app', `${flag}=1`]);
      const fits = [takesNone, takesOne].some((parse) => {
        try {
          parse();
          return true;
        } catch {
          return false;
        }
      });
      expect(fits, flag).toBe(true);
    }
  });
});
