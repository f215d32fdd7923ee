/**
 * `npm run faults [-- --only matrix,beside,cuts,token,outages] [--layer BYTES] [--cuts 4,12] [--write]`: measures what faults cost, beside what users
 * would run instead, and prints Markdown. Results are kept, so that parts measured one by one make one document; `--write` puts it
 * into docs/faults.md. The cuts need Linux with root or passwordless sudo, for the engine.
 */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { TEST_PARTS, unpackedRoot } from '../__tests__/support/real/parts.ts';
import { privateFolder, removeFolder } from '../__tests__/support/real/processes.ts';
import { ACTION_VARIABLE, copyAction } from '../__tests__/support/runner.ts';
import { measureBeside } from './faults/beside.ts';
import { measureCuts } from './faults/cuts.ts';
import { documentOf, type Measured } from './faults/document.ts';
import { measureMatrix } from './faults/matrix.ts';
import { measureOutages } from './faults/outages.ts';
import { measureToken } from './faults/token.ts';
import { setup } from './setup/parts.ts';

const { values: options } = parseArgs({
  options: {
    only: { type: 'string', default: 'matrix,beside,cuts,token,outages' },
    layer: { type: 'string', default: '500000000' },
    chunk: { type: 'string', default: '20000000' },
    cuts: { type: 'string', default: '4,12' },
    write: { type: 'boolean', default: false },
  },
});

const kept = join(unpackedRoot, 'faults.json');
const soFar = (): Measured => (existsSync(kept) ? (JSON.parse(readFileSync(kept, 'utf8')) as Measured) : {});

const keep = (part: Measured): void => {
  mkdirSync(dirname(kept), { recursive: true });
  writeFileSync(kept, JSON.stringify({ ...soFar(), ...part }));
};

const parts = new Set(options.only.split(','));
await setup(TEST_PARTS);
// A build meanwhile must not pull the action out from under a push.
const action = privateFolder('action');
copyAction(action);
process.env[ACTION_VARIABLE] = action;
process.once('exit', () => removeFolder(action));
if (parts.has('cuts')) {
  const layerBytes = Number(options.layer);
  const cuts = options.cuts.split(',').map(Number);
  const runs = await measureCuts({ layerBytes, chunkSize: options.chunk, cuts }, (run) => {
    console.log(
      `${run.registry}, ${run.tool}, ${run.made} of ${run.cuts} cuts: ${run.failed ?? 'pushed'}, sent again: ${run.resent}`,
    );
  });
  keep({ layerBytes, chunkBytes: Number(options.chunk), cuts: runs });
}
if (parts.has('beside')) {
  const runs = await measureBeside(({ step, fault, tool, end }) => console.log(`${step}, ${fault}, ${tool}: ${end}`));
  keep({ beside: runs });
}
if (parts.has('outages')) {
  const runs = await measureOutages(({ what, tool, seconds, failed }) =>
    console.log(`${what}, ${tool}: ${failed ?? 'pushed'} after ${Math.round(seconds)} s`),
  );
  keep({ outages: runs });
}
if (parts.has('token')) keep({ token: await measureToken() });
if (parts.has('matrix')) {
  const matrix = await measureMatrix((name) => console.log(`The matrix on ${name} ...`));
  keep({ matrix });
  for (const complaint of matrix.complaints) console.error(`NOT AS STATED: ${complaint}`);
  if (matrix.complaints.length > 0) process.exitCode = 1;
}
const document = fileURLToPath(new URL('../docs/faults.md', import.meta.url));
const text = documentOf(soFar(), existsSync(document) ? readFileSync(document, 'utf8') : '');
if (options.write) writeFileSync(document, text);
else console.log(text);
