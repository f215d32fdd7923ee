import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { FLAGS, parseFlags } from '../../src/terminal/flags.ts';
import { completionOf } from '../../src/terminal/help.ts';

/** What bash proposes at the end of these words. */
const proposed = (...words: string[]): string[] => {
  const script = `${completionOf('bash')}
COMP_WORDS=(chunked-push ${words.map((word) => `'${word}'`).join(' ')}); COMP_CWORD=${words.length}
_chunked_push; printf '%s\\n' "\${COMPREPLY[@]}"`;
  const { stdout, stderr, status } = spawnSync('bash', ['--norc', '-c', script], { encoding: 'utf8' });
  expect([stderr, status]).toEqual(['', 0]);
  return stdout.trim().split('\n');
};

describe('completion of bash', () => {
  it('proposes every flag, and those that begin like it', () => {
    expect(proposed('app', '--')).toEqual(FLAGS.map(({ name }) => `--${name}`));
    expect(proposed('app', '--cache')).toEqual(['--cache-from', '--cache-max-size']);
  });

  it('proposes the values of a flag, and none where there is no list', () => {
    expect(proposed('--engine', '')).toEqual(['auto', 'docker', 'podman']);
    expect(proposed('--compression', 'z')).toEqual(['zstd']);
    expect(proposed('--to', '')).toEqual(['']);
  });

  it('proposes the values of a flag behind its =, which parts words', () => {
    expect(proposed('--engine', '=')).toEqual(['auto', 'docker', 'podman']);
    expect(proposed('app', '--engine', '=', 'do')).toEqual(['docker']);
  });

  it('proposes files with spaces in their names', () => {
    const folder = mkdtempSync(join(tmpdir(), 'chunked-push-completion-'));
    writeFileSync(join(folder, 'my ca.pem'), '');
    expect(proposed('--ca-file', `${folder}/m`)).toEqual([`${folder}/my ca.pem`]);
    rmSync(folder, { recursive: true });
  });

  it('proposes commands in the first place only', () => {
    expect(proposed('d')).toEqual(['doctor']);
    expect(proposed('completion', '')).toEqual(['bash', 'zsh']);
    expect(proposed('app', 'd')).toEqual(['']);
  });
});

describe('completion of zsh', () => {
  it('has a line for each flag, its quotes closed', () => {
    const script = completionOf('zsh');
    for (const { name } of FLAGS) expect(script).toMatch(new RegExp(`^ {4}'\\*?--${name}=?\\[.+\\].*' \\\\$`, 'm'));
    // The quoting is that of bash too.
    const { stderr } = spawnSync('bash', ['-n'], { input: script.replaceAll('$+', '$'), encoding: 'utf8' });
    expect(stderr).toBe('');
  });
});

describe('the words that are no image', () => {
  it('are commands, and need what they need', () => {
    expect(parseFlags(['completion', 'zsh'])).toMatchObject({ completion: 'zsh', doctor: false });
    expect(parseFlags(['doctor', 'r.example.com/a'])).toMatchObject({
      doctor: true,
      completion: undefined,
      inputs: { image: 'r.example.com/a' },
    });
    expect(() => parseFlags(['completion', 'fish'])).toThrow('completion takes one of bash, zsh');
    expect(() => parseFlags(['doctor'])).toThrow('doctor takes one REGISTRY/REPOSITORY');
  });
});
