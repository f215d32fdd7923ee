/** What the numbers do not say by themselves. Kept beside the document's maker, so that a new run does not lose it. */
import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const FILE = fileURLToPath(new URL('../../docs/benchmark-notes.md', import.meta.url));

/** The notes of docs/benchmark-notes.md; nothing without that file. */
export const notes = (): readonly string[] => (existsSync(FILE) ? [readFileSync(FILE, 'utf8').trim()] : []);
