/**
 * Opens and reads a store as the user who runs it: facts and options as JSON on standard input, what came of it as JSON on
 * standard output.
 */
import { text } from 'node:stream/consumers';
import { type EngineFacts, openEngineStore } from '../../../src/source/store/open.ts';
import { readLayers } from './reading.ts';

const { facts, info, wanted, env } = JSON.parse(await text(process.stdin));

const debug: string[] = [];
const notices: string[] = [];
const report = (outcome: object) => process.stdout.write(JSON.stringify({ debug, notices, ...outcome }));
try {
  const source = await openEngineStore({ ...facts, info: async () => info } as EngineFacts, {
    export: wanted,
    signal: new AbortController().signal,
    debug: (line) => debug.push(line),
    notice: (line) => notices.push(line),
    env: { PATH: process.env.PATH, ...env },
  });
  const read = source && (await readLayers(source));
  await source?.close();
  report({ opened: source !== undefined, read });
} catch (error) {
  const { name, message, remedy } = error as Error & { remedy?: string };
  report({ error: { name, message, remedy } });
}
