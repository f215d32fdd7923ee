/** Programs that are loaded by others and bundled by themselves. */
import type { Plugin } from 'esbuild';

/** main asks the engine before it loads the rest: what it needs for that must not wait for, nor be shared with, that rest. */
const APART: ReadonlyMap<string, string> = new Map([['./action/step.ts', './step.js']]);

export const programs: Plugin = {
  name: 'programs',
  setup({ onResolve }) {
    onResolve({ filter: /\.ts$/ }, ({ path, kind }) => {
      const program = kind === 'dynamic-import' ? APART.get(path) : undefined;
      return program === undefined ? undefined : { path: program, external: true };
    });
  },
};
