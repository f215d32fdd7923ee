/** A compressor thread: takes a block, gives back its compressed form. Buffers change hands, no byte is copied between threads. */
import './wasm.ts';
import { parentPort, workerData } from 'node:worker_threads';
import { codecFor } from './codec.ts';
import type { Finished, Job, WorkerSettings } from './pool.ts';

const { compression, level, bufferBytes } = workerData as WorkerSettings;
const codec = await codecFor(compression, level);
const port = parentPort!;

/** What the next block is compressed into: it goes away with the result, and the block's own buffer takes its place. */
let spare = new ArrayBuffer(bufferBytes);

port.on('message', ({ id, buffer, length }: Job) => {
  const into = spare;
  const size = codec(new Uint8Array(buffer, 0, length), new Uint8Array(into));
  spare = buffer;
  port.postMessage({ id, buffer: into, length: size } satisfies Finished, [into]);
});
