/** `npm run release-notes -- v1.2.3 FILE`: writes the notes of a tag to a file; fails when the tag is not the version of package.json. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { notesOf } from './release/notes.ts';

const root = fileURLToPath(new URL('..', import.meta.url));
const [tag = '', out = ''] = process.argv.slice(2);
const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
try {
  if (out === '') throw new Error('usage: npm run release-notes -- TAG FILE');
  if (tag !== `v${version}`) throw new Error(`the tag is ${tag}, the version of package.json is ${version}`);
  writeFileSync(resolve(root, out), notesOf(readFileSync(join(root, 'CHANGELOG.md'), 'utf8'), version));
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
}
