import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { metadata, objections, read, root } from './language-service.ts';

/** https://docs.github.com/en/actions/reference/workflows-and-actions/metadata-syntax#branding */
const COLORS = ['white', 'black', 'yellow', 'blue', 'green', 'orange', 'red', 'purple', 'gray-dark'];

describe('action.yml', () => {
  it('is what GitHub expects', async () => {
    expect(await objections(read('action.yml'), 'action')).toEqual([]);
  });

  it('is ready for the Marketplace: name, short description, branding', () => {
    expect(metadata.name).not.toBe('');
    expect(metadata.description.length).toBeLessThan(125);
    expect(metadata.author).not.toBe('');
    expect(COLORS).toContain(metadata.branding.color);
    // A name out of Feather 4.28, as GitHub takes them.
    expect(metadata.branding.icon).toBe('upload-cloud');
  });

  it('runs files that are there, on Node 24', () => {
    expect(metadata.runs).toEqual({ using: 'node24', main: 'dist/main.js', post: 'dist/post.js' });
    for (const path of [metadata.runs.main, metadata.runs.post, 'dist/licenses.txt', 'dist/cli.js'])
      expect(existsSync(join(root, path))).toBe(true);
  });

  it('describes every input and output', () => {
    for (const { description } of [...Object.values(metadata.inputs), ...Object.values(metadata.outputs)])
      expect(description?.trim().length).toBeGreaterThan(20);
  });
});

describe('README.md', () => {
  /** The rows of the table that follows a comment, cell by cell. */
  const table = (name: string): readonly (readonly string[])[] => {
    const [, rest = ''] = read('README.md').split(`<!-- ${name}: `);
    const lines = rest.split('\n').slice(1);
    const start = lines.findIndex((line) => line.startsWith('|'));
    const rows = lines.slice(start);
    const end = rows.findIndex((line) => !line.startsWith('|'));
    return rows.slice(2, end).map((row) =>
      row
        .split('|')
        .slice(1, -1)
        .map((cell) => cell.trim()),
    );
  };

  it('has every input, in the order of action.yml, with its default', () => {
    const rows = table('inputs');
    expect(rows.map(([name]) => name)).toEqual(Object.keys(metadata.inputs).map((name) => `\`${name}\``));
    for (const [name = '', shown = '', meaning = ''] of rows) {
      const { required, default: value } = metadata.inputs[name.slice(1, -1)]!;
      expect(meaning.length).toBeGreaterThan(20);
      if (required) expect(shown).toBe('required');
      else if (value !== undefined) expect(shown).toBe(`\`${value}\``);
      else expect(shown).not.toMatch(/^`|required/);
    }
  });

  it('has every output, in the order of action.yml', () => {
    const rows = table('outputs');
    expect(rows.map(([name]) => name)).toEqual(Object.keys(metadata.outputs).map((name) => `\`${name}\``));
    for (const [, meaning = ''] of rows) expect(meaning.length).toBeGreaterThan(20);
  });
});
