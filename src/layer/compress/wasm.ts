/**
 * Imported before the compressor's WebAssembly: that runs hot, and V8 may compile it with all its might as soon as it sees that.
 * This is V8's own default, which the process has raised for its HTTP parser (src/wasm.ts).
 */
import { setFlagsFromString } from 'node:v8';

setFlagsFromString('--wasm-tiering-budget=13000000');
