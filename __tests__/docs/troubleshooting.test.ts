import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { describeWith } from '../support/real/suite.ts';
import { read } from './language-service.ts';
import { type Bench, makeBench, TROUBLES } from './troubles.ts';

interface Section {
  readonly heading: string;
  readonly pattern: RegExp;
  readonly text: string;
}

const sections: readonly Section[] = read('TROUBLESHOOTING.md')
  .split(/^### /m)
  .slice(1)
  .map((section) => {
    const [first = '', ...lines] = section.split('\n');
    const heading = /^`(.+)`$/.exec(first)?.[1] ?? '';
    const parts = heading.split('…').map((part) => part.replace(/[.*+?^${}()|[\]\\]/g, '\\$&'));
    return { heading, pattern: new RegExp(`^${parts.join('.*')}$`), text: lines.join('\n') };
  });

describe('TROUBLESHOOTING.md', () => {
  it.each(sections)('$heading has a cause and a remedy', ({ heading, text }) => {
    // More than dots, or it would fit everything.
    expect(heading.replaceAll(/[…: ]/g, '').length).toBeGreaterThan(8);
    expect(text).toMatch(/^Cause: \S/m);
    expect(text).toMatch(/^Remedy: \S/m);
  });
});

describeWith(
  ['podman', 'docker', 'docker-registry', 'nginx'],
  'each trouble has its heading, in the very words of the log:',
  () => {
    let bench: Bench;
    const met = new Set<string>();

    beforeAll(async () => {
      bench = await makeBench(mkdtempSync(join(tmpdir(), 'chunked-push-troubles-')));
    });

    afterAll(async () => {
      await bench?.podman.stop();
      rmSync(bench.folder, { recursive: true });
    });

    it.concurrent.each(Object.entries(TROUBLES))('%s', async (_, provoke) => {
      const line = await provoke(bench);
      const found = sections.filter(({ pattern }) => pattern.test(line)).map(({ heading }) => heading);
      expect(found, line).not.toEqual([]);
      // A more exact one may say of a special case what the other says in general.
      met.add(found.sort((a, b) => b.length - a.length)[0]!);
    });

    describe('and', () => {
      it('each heading has its trouble', () => {
        expect(sections.map(({ heading }) => heading).filter((heading) => !met.has(heading))).toEqual([]);
      });
    });
  },
);
