/** Leaves out of the bundle what is loaded with a dependency and never used: loading takes time at the start of each push. */
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import type { Plugin } from 'esbuild';

const llhttp = createRequire(import.meta.url)('undici/lib/llhttp/constants.js');

const UNDICI = fileURLToPath(new URL('undici.cjs', import.meta.url));
const UNDICI_PROXIES = fileURLToPath(new URL('undici-proxies.cjs', import.meta.url));

/** Who wants of undici its proxies, and nothing else. */
const PROXIED = /[\\/](src[\\/]registry[\\/]proxied\.ts|@actions[\\/]http-client[\\/].*)$/;

/** What stands in for parts of undici, by what asks for them. A part that is not there says so if it is wanted after all. */
const INSTEAD = [
  // Loaded whether it is allowed or not; here it never is (src/registry/dispatcher.ts).
  {
    importer: /dispatcher[\\/]client\.js$/,
    path: /^\.\/client-h2/,
    contents: 'module.exports = () => absent("HTTP/2");',
  },
  // Only for a request body that is a form or a Blob: ours are bytes and streams.
  {
    importer: /(core[\\/]request|dispatcher[\\/]client-h1)\.js$/,
    path: /^\.\.\/web\//,
    contents: 'absent("a form as a body");',
  },
  // Only a faster way to the lower case of well-known names of headers, and 1 ms to build.
  {
    importer: /core[\\/]util\.js$/,
    path: /^\.\/tree$/,
    contents: 'module.exports = { tree: { lookup: () => null } };',
  },
  // Of the parser's 700 lines of numbers, two tables.
  {
    importer: /dispatcher[\\/]client-h1\.js$/,
    path: /^\.\.\/llhttp\/constants\.js$/,
    contents: `module.exports = ${JSON.stringify({ TYPE: llhttp.TYPE, ERROR: llhttp.ERROR })};`,
  },
];

/** Modules of Node's of which undici needs next to nothing, and which take 5 and 2 ms to load. */
const SMALLER: Readonly<Record<string, string>> = {
  // As Node's own default; it compares bodies to the class, and no body of ours is one.
  'node:http': 'module.exports = { maxHeaderSize: 16 * 1024, IncomingMessage: class {} };',
  'node:assert':
    'module.exports = (value, message) => { if (!value) process.getBuiltinModule("node:assert")(value, message); };',
};

const SAYING_SO = 'function absent(what) { throw new Error(what + " is not part of this bundle: see scripts/build"); }';

export const lean: Plugin = {
  name: 'lean',
  setup({ onResolve, onLoad, resolve }) {
    onResolve({ filter: /^undici$/ }, ({ importer }) => ({ path: PROXIED.test(importer) ? UNDICI_PROXIES : UNDICI }));
    onResolve({ filter: /^\.\.?\// }, ({ path, importer }) => {
      if (!/[\\/]undici[\\/]lib[\\/]/.test(importer)) return undefined;
      const instead = INSTEAD.find((part) => part.importer.test(importer) && part.path.test(path));
      return instead && { path, namespace: 'instead', pluginData: instead.contents };
    });
    onResolve({ filter: /^node:(http|assert)$/ }, ({ path, importer }) =>
      /[\\/]undici[\\/]lib[\\/]/.test(importer) ? { path, namespace: 'smaller' } : undefined,
    );
    onLoad({ filter: /.*/, namespace: 'smaller' }, ({ path }) => ({ contents: SMALLER[path]! }));
    onLoad({ filter: /.*/, namespace: 'instead' }, ({ pluginData }) => ({ contents: `${SAYING_SO}\n${pluginData}` }));
    // @actions/core needs them for OIDC tokens, the system's name and its own summary only; that loading them does nothing is not said.
    onResolve(
      { filter: /^@actions\/http-client|^\.\/(oidc-utils|platform|summary)\.js$|^tunnel$/ },
      async ({ path, pluginData, importer, kind, resolveDir }) => {
        if (pluginData === lean) return undefined;
        const found = await resolve(path, { importer, kind, resolveDir, pluginData: lean });
        return { ...found, sideEffects: false };
      },
    );
  },
};
