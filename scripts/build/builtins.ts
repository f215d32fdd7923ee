/**
 * Node's own modules without their ES module wrappers. `import … from 'node:http'` makes Node read every export to wrap it,
 * among them getters that load half of Node (http's `WebSocket` brings a second undici): 40 of the first 130 ms of a push.
 * `process.getBuiltinModule` gives the module itself.
 */
import { builtinModules, createRequire } from 'node:module';
import type { Plugin } from 'esbuild';

const require = createRequire(import.meta.url);
const BUILTIN = new RegExp(`^(node:.*|${builtinModules.join('|')})$`);

export const builtins: Plugin = {
  name: 'builtins',
  setup({ onResolve, onLoad }) {
    onResolve({ filter: BUILTIN }, ({ path, kind }) => ({
      path: path.startsWith('node:') ? path : `node:${path}`,
      namespace: kind === 'require-call' ? 'builtin-required' : 'builtin-imported',
      // Whatever of it is not used is not read.
      sideEffects: false,
    }));
    onLoad({ filter: /.*/, namespace: 'builtin-required' }, ({ path }) => ({
      contents: `module.exports = ${moduleOf(path)};`,
    }));
    onLoad({ filter: /.*/, namespace: 'builtin-imported' }, ({ path }) => ({ contents: importedBy(path) }));
  },
};

const moduleOf = (path: string): string => `process.getBuiltinModule(${JSON.stringify(path)})`;

/** Modules that many a push never needs, and that take milliseconds to load: each is loaded when one of its functions is called. */
const LATE: ReadonlySet<string> = new Set(['child_process', 'readline', 'tls', 'v8', 'worker_threads', 'zlib']);

/** An ES module with every export of a module of Node's; the bundler leaves out those that nobody imports. */
function importedBy(path: string): string {
  const all = Object.entries(require(path)).filter(([name]) => /^[A-Za-z_$][\w$]*$/.test(name) && name !== 'default');
  if (LATE.has(path.slice('node:'.length))) return lateBy(path, all);
  return [
    `const all = /* @__PURE__ */ ${moduleOf(path)};`,
    'export default all;',
    ...all.map(([name]) => exported(name, `/* @__PURE__ */ (() => all.${name})()`)),
  ].join('\n');
}

function lateBy(path: string, all: ReadonlyArray<[string, unknown]>): string {
  const call = (name: string) =>
    `function (...args) { const it = ${moduleOf(path)}.${name}; return new.target ? new it(...args) : it(...args); }`;
  const value = (name: string) => `/* @__PURE__ */ (() => ${moduleOf(path)}.${name})()`;
  return [
    `export default /* @__PURE__ */ ${moduleOf(path)};`,
    ...all.map(([name, it]) => exported(name, typeof it === 'function' ? call(name) : value(name))),
  ].join('\n');
}

/** Under a name of its own: some exports are called like what is built into the language. */
const exported = (name: string, value: string): string =>
  `const the_${name} = ${value}; export { the_${name} as ${name} };`;
