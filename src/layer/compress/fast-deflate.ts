/** Level 1 of gzip: the project's own deflate, compiled from deflate/ (AssemblyScript) to WebAssembly when dist is built. */
import { readFileSync } from 'node:fs';

/** What deflate/index.ts exports. */
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
  import.meta.url.endsWith('.ts') ? '../../../dist/deflate.wasm' : './deflate.wasm',
  import.meta.url,
);

/**
 * A compressor: writes `block`, at most 1 MiB, as a deflate stream (RFC 1951) into `into`, and returns how many bytes that took: never
 * more than 1/256 above the block's. What does not shrink is stored. Throws RangeError for a longer block.
 */
export function fastDeflate(): (block: Uint8Array, into: Uint8Array) => number {
  const { exports } = new Instance(new Module(readFileSync(MODULE_URL)));
  const { memory, input, output, capacity, deflate } = exports as Exports;
  // Its memory never grows, so these stay.
  const source = new Uint8Array(memory.buffer, input(), capacity());
  const result = new Uint8Array(memory.buffer, output());
  return (block, into) => {
    source.set(block);
    const size = deflate(block.length);
    into.set(result.subarray(0, size));
    return size;
  };
}
