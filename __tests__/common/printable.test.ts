import { expect, it } from 'vitest';
import { cut, oneLine, plainLines, printable, printableJson } from '../../src/common/printable.ts';
import { HOSTILE_TEXTS } from '../support/hostile-text.ts';
import { runnerCommands } from '../support/runner-files.ts';

// The terminal's command may run in a workflow's `run` step: the runner reads its lines as it reads the action's.
it.each(Object.entries(HOSTILE_TEXTS))('a line with a text that %s is no workflow command', (_, text) => {
  for (const line of [text, `error: ${text}`, `x\n${text}`]) expect(runnerCommands(plainLines(line))).toEqual([]);
});

it.each(['##vso[task.setvariable variable=x]y', '##VSO[task.complete]', 'a ###[debug]b'])('nor is %s', (text) => {
  expect(printable(text)).not.toMatch(/##(vso)?\[/i);
});

it('JSON keeps its values, and has no workflow command in it', () => {
  for (const text of Object.values(HOSTILE_TEXTS)) {
    const json = printableJson({ [text]: text });
    expect(JSON.parse(json)).toEqual({ [text]: text });
    expect(runnerCommands(json)).toEqual([]);
  }
});

it('a text is cut between characters', () => {
  expect(cut('abcd', 4)).toBe('abcd');
  expect(cut('abcde', 4)).toBe('abc…');
  for (let limit = 2; limit < 8; limit++) expect(oneLine(`ab${'😀'.repeat(5)}`, limit).isWellFormed()).toBe(true);
});
