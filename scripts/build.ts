/** Builds dist from src: the action's two steps, the terminal's command, what they start in threads and processes, and the compressor. */
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { compileDeflate } from './build/deflate.ts';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const outdir = process.argv[2] ?? join(root, 'dist');

/**
 * The files of dist, by name: the action's two steps, the command, and what they start in threads and processes. Each is
 * complete in itself, so that a change of five lines in src changes the files that hold it and renames none.
 */
const PROGRAMS: Readonly<Record<string, string>> = {
  main: 'src/main.ts',
  post: 'src/post.ts',
  cli: 'src/cli.ts',
  'cache-service': 'src/cache/service-process.ts',
  'compress-worker': 'src/blob/compress/worker.ts',
  'store-helper': 'src/source/store/helper/main.ts',
};

/** Dependencies in CommonJS call `require` for Node's own modules; an ES module has none. */
const REQUIRE = `import { createRequire as nodeCreateRequire } from 'node:module'; const require = nodeCreateRequire(import.meta.url);`;

rmSync(outdir, { recursive: true, force: true });
const built = await Promise.all(Object.entries(PROGRAMS).map(([name, source]) => bundle(name, source)));
writeFileSync(join(outdir, 'licenses.txt'), licenses(built.flatMap(({ metafile }) => Object.keys(metafile.inputs))));
await compileDeflate(root, join(outdir, 'deflate.wasm'));

function bundle(name: string, source: string) {
  return build({
    absWorkingDir: root,
    entryPoints: { [name]: source },
    outdir,
    bundle: true,
    // The command checks the version of Node.js before it loads what an old one can't: those parts are files of their own.
    splitting: name === 'cli',
    chunkNames: `${name}-[name]`,
    format: 'esm',
    platform: 'node',
    // The oldest that package.json's engines allow; the action itself runs on Node 24.
    target: 'node22.19',
    banner: { js: REQUIRE },
    legalComments: 'none',
    // Names are kept for stack traces; white space is what makes a bundle large.
    minifyWhitespace: true,
    minifySyntax: true,
    metafile: true,
    logLevel: 'warning',
  });
}

/** The licence texts of every package that the bundle holds, by package name. */
function licenses(inputs: readonly string[]): string {
  const packages = new Set<string>();
  for (const path of inputs) {
    const match = /^(.*node_modules\/(?:@[^/]+\/)?[^/]+)\//.exec(path);
    if (match?.[1]) packages.add(match[1]);
  }
  return [...packages].sort().map(licenseOf).join('\n');
}

function licenseOf(folder: string): string {
  const manifest = JSON.parse(readFileSync(join(root, folder, 'package.json'), 'utf8'));
  const file = ['LICENSE', 'LICENSE.md', 'LICENSE.txt', 'LICENCE', 'license', 'LICENSE-MIT', 'License.txt']
    .map((name) => join(root, folder, name))
    .find((path) => readable(path));
  const text = file ? readFileSync(file, 'utf8').trim() : `(${manifest.license})`;
  return `${manifest.name} ${manifest.version} (${manifest.license})\n\n${text}\n\n${'-'.repeat(80)}\n`;
}

function readable(path: string): boolean {
  try {
    readFileSync(path);
    return true;
  } catch {
    return false;
  }
}
