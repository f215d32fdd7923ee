/** Builds dist from src: the action's two steps, the terminal's command, what they start in threads and processes, and the compressor. */
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { main as asc } from 'assemblyscript/asc';
import { build, type Metafile } from 'esbuild';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const outdir = process.argv[2] ?? join(root, 'dist');

/** Dependencies that are CommonJS call `require` for Node's own modules; an ES module has none of its own. */
const REQUIRE_BANNER = `import { createRequire as __createRequire } from 'node:module';
const require = __createRequire(import.meta.url);`;

rmSync(outdir, { recursive: true, force: true });
const result = await build({
  absWorkingDir: root,
  entryPoints: {
    main: 'src/main.ts',
    post: 'src/post.ts',
    cli: 'src/cli.ts',
    'cache-service': 'src/cache/service-process.ts',
    'compress-worker': 'src/layer/compress/worker.ts',
    'store-helper': 'src/image/store/helper.ts',
  },
  outdir,
  bundle: true,
  splitting: true,
  format: 'esm',
  platform: 'node',
  target: 'node24',
  banner: { js: REQUIRE_BANNER },
  // The names of chunks follow from their contents, so the same source gives the same dist on every machine.
  chunkNames: 'chunk-[hash]',
  legalComments: 'none',
  // Names are kept for stack traces; white space is what makes a bundle large.
  minifyWhitespace: true,
  minifySyntax: true,
  metafile: true,
  logLevel: 'warning',
});
writeFileSync(join(outdir, 'licenses.txt'), licenses(result.metafile));
await compileDeflate(join(outdir, 'deflate.wasm'));

/** AssemblyScript to WebAssembly: no allocator, no imports, and exactly the memory that layout.ts lays out (44 pages of 64 KiB). */
async function compileDeflate(outFile: string): Promise<void> {
  const options = ['-O3', '--converge', '--noAssert', '--runtime', 'stub', '--use', 'abort=', '--enable', 'simd'];
  const pages = ['--initialMemory', '44', '--maximumMemory', '44'];
  // The compiler takes paths from the project's folder, and names none of them in what it makes.
  const files = ['src/layer/compress/deflate/index.ts', '--outFile', relative(root, outFile), '--baseDir', root];
  const { error, stderr } = await asc([...files, ...options, ...pages]);
  if (error || `${stderr}` !== '') throw new Error(`deflate could not be compiled: ${stderr}`, { cause: error });
}

/** The licence texts of every package that the bundle holds, by package name. */
function licenses(metafile: Metafile): string {
  const packages = new Set<string>();
  for (const path of Object.keys(metafile.inputs)) {
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
