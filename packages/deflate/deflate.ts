/** Loads the compressor: WebAssembly, compiled from assembly/ when dist is built (scripts/build/deflate.ts). */

import { readFileSync } from 'node:fs';

/** What assembly/index.ts exports. */
interface Exports {
  readonly memory: { readonly buffer: ArrayBuffer };
  input(): number;
  output(): number;
  capacity(): number;
  deflate(size: number): number;
}

/** Node's types leave WebAssembly to the browser's. */
interface WebAssemblyApi {
  readonly Module: new (bytes: Uint8Array) => object;
  readonly Instance: new (module: object) => { readonly exports: unknown };
}
const { Module, Instance } = (globalThis as unknown as { readonly WebAssembly: WebAssemblyApi }).WebAssembly;

/** The module lies beside the bundle; the source tree uses the one that was built last. */
const MODULE_URL = new URL(
  import.meta.url.endsWith('.ts') ? '../../dist/deflate.wasm' : './deflate.wasm',
  import.meta.url,
);

/** Writes `block` as a deflate stream (RFC 1951) into `into` and returns how many bytes that took. */
export type Deflate = (block: Uint8Array, into: Uint8Array) => number;

/**
 * A compressor with a memory of its own (2.8 MB), for blocks of at most 1 MiB. Its output is never more than 1/256 above the block's
 * size: what does not shrink is stored. The same block gives the same bytes on every machine. Throws RangeError for a longer block.
 */
export function createDeflate(moduleUrl: URL = MODULE_URL): Deflate {
  const { exports } = new Instance(new Module(readFileSync(moduleUrl)));
  const { memory, input, output, capacity, deflate } = exports as Exports;
  // Its memory never grows, so these stay valid.
  const source = new Uint8Array(memory.buffer, input(), capacity());
  const result = new Uint8Array(memory.buffer, output());
  return (block, into) => {
    source.set(block);
    const size = deflate(block.length);
    into.set(result.subarray(0, size));
    return size;
  };
}
