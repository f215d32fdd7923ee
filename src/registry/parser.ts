/**
 * undici's HTTP parser is WebAssembly, and after some fifteen answers V8 takes it for hot and compiles it anew with all its might: a
 * fifth of the CPU time of a push that has little to send. What it was compiled to at first is fast enough for answers of a few
 * lines. The budget is read when a module is made; it is V8's own again right after, for the compressor's module, which does run
 * hot, and because Node's cache of its own modules is of no use under other flags (heap.ts).
 */
import { setFlagsFromString } from 'node:v8';

/** V8 13's default. https://github.com/v8/v8/blob/13.6.233/src/flags/flag-definitions.h */
const USUAL = 13_000_000;
const ENDLESS = 1_000_000_000;

let isMade = false;

/** Runs what may make the parser: undici does so when the first connection is there. */
export function withCalmParser(connected: () => void): void {
  if (isMade) {
    connected();
    return;
  }
  isMade = true;
  setFlagsFromString(`--wasm-tiering-budget=${ENDLESS}`);
  try {
    connected();
  } finally {
    setFlagsFromString(`--wasm-tiering-budget=${USUAL}`);
  }
}
