/**
 * The read-only helper: `store-helper.js ROOT…`, started under sudo. It reads regular files below the roots, writes
 * nothing, starts nothing, and ends when its input does. README.md in this folder says what keeps it to that.
 */
import { LocalFiles } from '../files/files.ts';
import { serve } from './server.ts';

process.stdout.on('error', () => process.exit(0)); // The reader has gone.
await serve(new LocalFiles(process.argv.slice(2)), process.stdin, process.stdout);
process.exit(0);
