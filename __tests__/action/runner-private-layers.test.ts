import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { privateLayersNotice } from '../../src/action/runner.ts';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'private-layers-test-'));
});
afterAll(() => rmSync(folder, { recursive: true }));

const entry = { key: 'k', file: 'f', path: '/f', size: 1 };
const savePlan = { version: 1 as const, workspace: '/w', pointers: [entry], layers: [entry], dropped: [] };
const pushed = { savePlan, usesCredentials: true };

const eventOf = (content: string) => {
  const file = join(folder, 'event.json');
  writeFileSync(file, content);
  return { GITHUB_EVENT_PATH: file };
};

it('a public repository that keeps layers of a push with credentials is told what that means', () => {
  const env = eventOf('{"repository":{"private":false}}');
  expect(privateLayersNotice(env, pushed)).toMatch(/public repository.*cache: false/);
  expect(privateLayersNotice(eventOf('{"repository":{"private":false,"visibility":"public"}}'), pushed)).toMatch(
    /public.*pull requests.*cache: false/,
  );
  expect(privateLayersNotice(env, { ...pushed, usesCredentials: false })).toBeUndefined();
  expect(privateLayersNotice(env, { ...pushed, savePlan: { ...savePlan, layers: [] } })).toBeUndefined();
  expect(privateLayersNotice(env, { ...pushed, savePlan: undefined })).toBeUndefined();
});

it.each([
  '{"repository":{"private":true}}',
  '{"repository":{"private":true,"visibility":"private"}}',
  '{"repository":{"private":false,"visibility":"internal"}}',
  '{"repository":{"visibility":"internal"}}',
  '{"repository":{}}',
  '{"schedule":"0 0 * * *"}',
  '{}',
  'null',
  '{',
  '',
])('not with the event %s', (content) => expect(privateLayersNotice(eventOf(content), pushed)).toBeUndefined());

it('not outside of a runner', () => {
  expect(privateLayersNotice({}, pushed)).toBeUndefined();
  expect(privateLayersNotice({ GITHUB_EVENT_PATH: join(folder, 'absent') }, pushed)).toBeUndefined();
});
