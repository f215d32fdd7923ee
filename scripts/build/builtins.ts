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

/** What many a push never needs, and Node takes milliseconds to load: modules, and exports behind which there is one more module. */
const LATE: ReadonlySet<string> = new Set([
  ...['child_process', 'fs/promises', 'readline', 'tls', 'v8', 'worker_threads', 'zlib'],
  ...['fs.promises', 'util.parseArgs'],
]);

/** An ES module with every export of a module of Node's; the bundler leaves out those that nobody imports. */
function importedBy(path: string): string {
  const module = path.slice('node:'.length);
  const isLate = LATE.has(module);
  const exports = Object.entries(require(path))
    .filter(([name]) => /^[A-Za-z_$][\w$]*$/.test(name) && name !== 'default')
    .map(([name, it]) => exported(name, isLate || LATE.has(`${module}.${name}`) ? late(path, name, it) : atOnce(name)));
  if (isLate) return [`export default /* @__PURE__ */ ${moduleOf(path)};`, ...exports].join('\n');
  return [`const all = /* @__PURE__ */ ${moduleOf(path)};`, 'export default all;', ...exports].join('\n');
}

const atOnce = (name: string): string => `/* @__PURE__ */ (() => all.${name})()`;

/** What stands for an export and asks for it when it is used. */
function late(path: string, name: string, it: unknown): string {
  const asked = `${moduleOf(path)}.${name}`;
  if (typeof it === 'function')
    return `function (...args) { const it = ${asked}; return new.target ? new it(...args) : it(...args); }`;
  // A module in its own right: its exports are asked of it one by one.
  if (name === 'promises') return `/* @__PURE__ */ new Proxy({}, { get: (_, key) => ${asked}[key] })`;
  return `/* @__PURE__ */ (() => ${asked})()`;
}

/** Under a name of its own: some exports are called like what is built into the language. */
const exported = (name: string, value: string): string =>
  `const the_${name} = ${value}; export { the_${name} as ${name} };`;
