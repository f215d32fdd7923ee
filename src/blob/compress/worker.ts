/**
 * A compressor thread: takes a block, returns its compressed form. Buffers change hands, no byte is copied between
 * threads.
 */

import { getPriority, setPriority } from 'node:os';
import { parentPort, workerData } from 'node:worker_threads';
import { codecFor } from './compression.ts';
import type { Finished, Job, WorkerSettings } from './pool.ts';

const { compression, level, bufferBytes } = workerData as WorkerSettings;
const codec = codecFor(compression, level);
const port = parentPort!;

/**
 * Compressing takes what the others leave of the processor. What feeds it (the engine's export, hashing, putting layers
 * together) or takes from it would otherwise wait for a time slice at every step: that made a push from a store 14 %
 * longer.
 */
const NICENESS = 10;

// On Linux 0 is this thread; elsewhere it is the whole process, whose priority is the user's.
if (process.platform === 'linux') yieldToOthers();

/** Under `nice -n 15` an ordinary user may not go back to 10 (EACCES); sandboxes may forbid the call altogether. */
function yieldToOthers(): void {
  try {
    if (getPriority(0) < NICENESS) setPriority(0, NICENESS);
  } catch {
    // It compresses as fast as everything else runs.
  }
}

/** What the next block is compressed into: it goes away with the result, and the block's own buffer takes its place. */
let spare = new ArrayBuffer(bufferBytes);

port.on('message', ({ id, buffer, length }: Job) => {
  const into = spare;
  const size = codec(new Uint8Array(buffer, 0, length), new Uint8Array(into));
  spare = buffer;
  port.postMessage({ id, buffer: into, length: size } satisfies Finished, [into]);
});
