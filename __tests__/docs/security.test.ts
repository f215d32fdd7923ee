/** docs/security.md names a command for each claim: what it runs must be there. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { read, root } from './language-service.ts';

const commands = [...read('docs/security.md').matchAll(/`npx vitest run ([^`]+)`/g)].map(([, files = '']) => files);
const files = commands.flatMap((text) => text.split(' ')).filter((file) => file !== 'FILE');

it('has commands', () => expect(files.length).toBeGreaterThan(12));

it.each(files)('%s is there', (file) => expect(existsSync(join(root, file))).toBe(true));
