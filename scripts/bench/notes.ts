/** What the numbers do not say by themselves, kept apart from them so that a new run does not lose it. */
import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const FILE = fileURLToPath(new URL('notes.md', import.meta.url));

/** The text of notes.md; nothing without it. */
export const notes = (): readonly string[] => (existsSync(FILE) ? [readFileSync(FILE, 'utf8').trim()] : []);
