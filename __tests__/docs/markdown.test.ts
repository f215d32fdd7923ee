import { existsSync, readdirSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { USAGE } from '../../src/terminal/help.ts';
import { metadata, OUR_ACTION, objections, read, root } from './language-service.ts';

const documents = (folder: string): readonly string[] =>
  readdirSync(join(root, folder))
    .filter((name) => name.endsWith('.md'))
    .map((name) => normalize(join(folder, name)));

const ALL = [...documents('.'), ...documents('docs')];

/** Headings as GitHub makes anchors of them. */
const anchors = (text: string): readonly string[] =>
  [...text.matchAll(/^#+ (.+)$/gm)].map(([, heading = '']) =>
    heading
      .toLowerCase()
      .replace(/[^\p{L}\p{N}\s_-]/gu, '')
      .replaceAll(' ', '-'),
  );

describe.each(ALL)('%s', (path) => {
  const text = read(path);
  const prose = text.replace(/```[\s\S]*?```/g, '').replace(/`[^`\n]*`/g, '');

  it('links to files and headings that are there', () => {
    for (const [, target = ''] of prose.matchAll(/\]\(([^)\s]+)\)/g)) {
      if (/^(https?:|mailto:)/.test(target)) continue;
      const [file = '', anchor] = target.split('#');
      const found = file === '' ? path : normalize(join(dirname(path), file));
      expect(existsSync(join(root, found)), `${target} in ${path}`).toBe(true);
      if (anchor !== undefined) expect(anchors(read(found)), `${target} in ${path}`).toContain(anchor);
    }
  });

  it('tells only of npm tasks that are there', () => {
    const { scripts } = JSON.parse(read('package.json'));
    for (const [, name] of text.matchAll(/npm run ([\w-]+)/g)) expect(scripts).toHaveProperty([name!]);
  });
});

/** The fenced blocks of a language. */
const blocks = (path: string, language: string): readonly string[] =>
  [...read(path).matchAll(new RegExp(`^\`\`\`${language}\\n([\\s\\S]*?)^\`\`\``, 'gm'))].map(([, block = '']) => block);

describe('README.md', () => {
  it('is short enough to be read', () => {
    expect(read('README.md').split('\n').length).toBeLessThanOrEqual(200);
  });
});

describe.each(['README.md', 'docs/usage.md'])('the steps in %s', (path) => {
  const yaml = blocks(path, 'yaml');

  it('are there', () => {
    expect(yaml.length).toBeGreaterThan(0);
  });

  it.each(yaml.map((block, index) => [index, block] as const))(
    'YAML block %d is part of a workflow',
    async (_, block) => {
      const steps = block.replaceAll(/^/gm, '      ');
      const workflow = `on: push\njobs:\n  push:\n    runs-on: ubuntu-latest\n    steps:\n${steps}`;
      expect(await objections(workflow, 'workflow')).toEqual([]);
      const ours = (parse(block) as { uses?: string; with?: object }[]).filter(({ uses }) =>
        uses?.startsWith(OUR_ACTION),
      );
      expect(ours).toHaveLength(1);
      for (const name of Object.keys(ours[0]?.with ?? {})) expect(metadata.inputs).toHaveProperty([name]);
    },
  );
});

describe('the command', () => {
  /** Names that the terminal has otherwise: `image` is the argument, `tags` is --to, the password comes on standard input, `cache` is on. */
  const OTHERWISE: Readonly<Record<string, string>> = {
    image: 'IMAGE',
    tags: '--to',
    password: '--password-stdin',
    cache: '--no-cache',
  };

  it('has a flag for every input of the action', () => {
    for (const name of Object.keys(metadata.inputs)) expect(USAGE).toContain(OTHERWISE[name] ?? `--${name}`);
  });

  it('is shown with flags that it has', () => {
    const shown = [...ALL, 'examples/gitlab-ci.yml'].flatMap((path) =>
      [...read(path).matchAll(/npx chunked-push[\s\S]*?(?=\n\n|\n```|$)/g)].map(([text]) => text),
    );
    expect(shown.length).toBeGreaterThan(1);
    for (const [flag] of shown.join(' ').matchAll(/--[a-z-]+/g)) expect(USAGE).toContain(flag);
  });
});
