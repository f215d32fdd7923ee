/**
 * The read-only helper, started under sudo where this is the machine's custom: `store-helper.js ROOT…`. It reads files below
 * the roots and nothing else, writes nothing, starts nothing, and ends when its input does.
 */
import { LocalFiles } from '../files/files.ts';
import { serve } from './server.ts';

process.stdout.on('error', () => process.exit(0)); // Nobody listens any more.
await serve(new LocalFiles(process.argv.slice(2)), process.stdin, process.stdout);
process.exit(0);
