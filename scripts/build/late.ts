/**
 * Keeps in one file what is loaded from the start. esbuild makes a file of whatever the same parts share, so each part that is loaded
 * late (by `import()`) would break that up further: five of them into 16 files, which took 8 ms more to load. Whenever a late part is loaded,
 * all of it is there, so each may say that it needs all of it.
 */
import { fileURLToPath } from 'node:url';
import type { Plugin } from 'esbuild';

const source = (path: string): string => fileURLToPath(new URL(`../../src/${path}`, import.meta.url));

const STEP = './src/action/step.ts';

/** What the action's step and the terminal's command share, and what late parts have in common of Node's own modules. */
const SHARED = [
  ...['push/push.ts', 'push/parse-request.ts', 'report/lines.ts'].map(source),
  ...['node:child_process', 'node:events', 'node:stream/promises', 'node:url'],
];

/** Marks what stands for a part and says what that needs: esbuild goes by the imports, whether anything of them is used or not. */
const NEEDING = '?needing-all';

export const late: Plugin = {
  name: 'late',
  setup({ onResolve, onLoad, resolve }) {
    onResolve({ filter: /.*/ }, async ({ path, kind, importer, resolveDir, pluginData }) => {
      if ((kind !== 'dynamic-import' && path !== STEP) || pluginData === late) return undefined;
      const found = await resolve(path, { kind, importer, resolveDir, pluginData: late });
      return { ...found, suffix: NEEDING };
    });
    onLoad({ filter: /.*/, namespace: 'file' }, ({ path, suffix }) => {
      if (suffix !== NEEDING) return undefined;
      const needs = SHARED.map((shared, index) => `import * as shared${index} from ${JSON.stringify(shared)};`);
      return { contents: [...needs, `export * from ${JSON.stringify(path)};`].join('\n'), resolveDir: source('') };
    });
  },
};
