/** The folders of src import downwards only: biome.arrows.jsonc says so, and a wrong import really fails. */
import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { root } from './language-service.ts';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'chunked-push-arrows-'));
  for (const file of ['biome.json', 'biome.arrows.jsonc']) cpSync(join(root, file), join(folder, file));
  symlinkSync(join(root, 'node_modules'), join(folder, 'node_modules'));
});
afterAll(() => rmSync(folder, { recursive: true }));

/** What Biome says of a file of src with one import. */
const lint = (path: string, specifier: string): string => {
  const file = join(folder, 'src', path);
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, `import { it } from '${specifier}';\n\nit();\n`);
  const { stdout, stderr } = spawnSync('biome', ['lint', '--colors=off', file], { cwd: folder, encoding: 'utf8' });
  return `${stdout}${stderr}`;
};

const FORBIDDEN: readonly (readonly [string, string])[] = [
  ['oci/a.ts', '../push/push.ts'],
  ['oci/a.ts', 'undici'],
  ['blob/compress/a.ts', '../streaming.ts'],
  ['source/archive/a.ts', '../find/find.ts'],
  ['source/layout/a.ts', '../archive/stream.ts'],
  ['source/engine/a.ts', '../../registry/registry.ts'],
  ['registry/http/a.ts', '../auth/authorizer.ts'],
  ['registry/upload/a.ts', '../repository.ts'],
  ['registry/a.ts', 'undici'],
  ['cache/a.ts', '../source/source.ts'],
  ['push/a.ts', '../report/lines.ts'],
  ['push/a.ts', '@actions/core'],
  ['report/a.ts', '../action/runner.ts'],
  ['source/store/a.ts', 'tar-stream'],
  ['terminal/a.ts', '../action/run.ts'],
];

const ALLOWED: readonly (readonly [string, string])[] = [
  ['push/a.ts', '../registry/upload/upload.ts'],
  ['registry/http/a.ts', 'undici'],
  ['action/a.ts', '@actions/core'],
  ['source/archive/a.ts', 'tar-stream'],
  ['registry/upload/a.ts', '../../oci/types.ts'],
];

describe('an import of src', () => {
  it.each(FORBIDDEN)('in %s of %s fails the lint', (path, specifier) => {
    expect(lint(path, specifier)).toContain('noRestrictedImports');
  });

  it('that closes a circle of files fails it', () => {
    const [one, other] = ['one.ts', 'other.ts'].map((name) => join(folder, 'src/oci', name)) as [string, string];
    mkdirSync(dirname(one), { recursive: true });
    writeFileSync(one, "import { b } from './other.ts';\n\nexport const a = (): unknown => b();\n");
    const lintOne = () => spawnSync('biome', ['lint', '--colors=off', one], { cwd: folder, encoding: 'utf8' }).stderr;
    writeFileSync(other, "import { a } from './one.ts';\n\nexport const b = (): unknown => a;\n");
    expect(lintOne()).toContain('noImportCycles');
    writeFileSync(
      other,
      "import type { a } from './one.ts';\n\nexport const b = (): typeof a | undefined => undefined;\n",
    );
    expect(lintOne()).toContain('noImportCycles');
    writeFileSync(other, 'export const b = (): unknown => 1;\n');
    expect(lintOne()).not.toContain('noImportCycles');
  });

  it.each(ALLOWED)('in %s of %s passes', (path, specifier) => {
    expect(lint(path, specifier)).not.toContain('noRestrictedImports');
  });

  it('is governed in every folder that has files', () => {
    const config = readFileSync(join(root, 'biome.arrows.jsonc'), 'utf8');
    const folders = new Set(
      readdirSync(join(root, 'src'), { recursive: true, withFileTypes: true })
        .filter((entry) => entry.isFile() && entry.name.endsWith('.ts'))
        .map((entry) => entry.parentPath.slice(root.length))
        .filter((path) => path !== 'src'),
    );
    expect([...folders].filter((path) => !config.includes(`"${path}/*.ts"`))).toEqual([]);
  });
});
