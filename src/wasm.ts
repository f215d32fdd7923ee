/**
 * Imported first by whatever pushes. undici's HTTP parser is WebAssembly, and after some fifteen answers V8 takes it for hot and
 * compiles it anew with all its might: a fifth of the CPU time of a push that has little to send. What it was compiled to at first
 * is fast enough for answers of a few lines. The budget is read when a module is made, so the compressor sets its own (compress/wasm.ts).
 */
import { setFlagsFromString } from 'node:v8';

setFlagsFromString('--wasm-tiering-budget=1000000000');
