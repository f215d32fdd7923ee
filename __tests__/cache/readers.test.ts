import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import { publicCacheNotice } from '../../src/cache/save.ts';

function noticeFor(event: string): string | undefined {
  const dir = mkdtempSync(join(tmpdir(), 'event-'));
  onTestFinished(() => rmSync(dir, { recursive: true, force: true }));
  const path = join(dir, 'event.json');
  writeFileSync(path, event);
  return publicCacheNotice({ GITHUB_EVENT_PATH: path });
}

it('a public repository is told who can read its cache', () => {
  expect(noticeFor('{"repository":{"private":false,"visibility":"public"}}')).toMatch(
    /public.*pull requests.*cache: false/,
  );
  // Older GitHub Enterprise Servers have no `visibility`.
  expect(noticeFor('{"repository":{"private":false}}')).toBeDefined();
});

it.each([
  '{"repository":{"private":true,"visibility":"private"}}',
  '{"repository":{"private":false,"visibility":"internal"}}',
  '{"repository":{}}',
  '{"schedule":"0 0 * * *"}',
  'null',
  '',
])('%s says nothing', (event) => {
  expect(noticeFor(event)).toBeUndefined();
});

it('without an event nothing is said', () => {
  expect(publicCacheNotice({})).toBeUndefined();
  expect(publicCacheNotice({ GITHUB_EVENT_PATH: '/missing/event.json' })).toBeUndefined();
});
