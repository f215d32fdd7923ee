/** Milliseconds of a clock that only goes forward. `performance.now()` loads all of node:perf_hooks first, which takes 1 ms. */
export const now = (): number => Number(process.hrtime.bigint()) / 1e6;
