/** Builds dist from src: the action's two steps, the terminal's command, what they start in threads and processes, and the compressor. */
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { builtins } from './build/builtins.ts';
import { compileDeflate } from './build/deflate.ts';
import { late } from './build/late.ts';
import { lean } from './build/lean.ts';
import { programs } from './build/programs.ts';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const outdir = process.argv[2] ?? join(root, 'dist');

/**
 * The push and what is started beside it, each bundled by itself: what all of them shared would be a dozen files more to read at the
 * start of each. Only the action's step and cli, which are the same program, share their files.
 */
const PROGRAMS: readonly Readonly<Record<string, string>>[] = [
  { main: 'src/main.ts' },
  { step: 'src/action/step.ts', cli: 'src/cli.ts' },
  { post: 'src/post.ts' },
  { 'cache-service': 'src/cache/service-process.ts' },
  { 'compress-worker': 'src/layer/compress/worker.ts' },
  { 'store-helper': 'src/image/store/helper.ts' },
];

rmSync(outdir, { recursive: true, force: true });
const built = await Promise.all(PROGRAMS.map(bundle));
writeFileSync(join(outdir, 'licenses.txt'), licenses(built.flatMap(({ metafile }) => Object.keys(metafile.inputs))));
await compileDeflate(root, join(outdir, 'deflate.wasm'));

function bundle(entryPoints: Readonly<Record<string, string>>) {
  return build({
    absWorkingDir: root,
    entryPoints,
    outdir,
    bundle: true,
    splitting: true,
    format: 'esm',
    platform: 'node',
    // The oldest that package.json's engines allow; the action itself runs on Node 24.
    target: 'node22.19',
    plugins: [programs, ...('step' in entryPoints ? [late] : []), lean, builtins],
    // By this undici leaves out its second, experimental parser, as it does in Node itself.
    define: { esbuildDetection: 'true' },
    // The names of chunks follow from their contents, so the same source gives the same dist on every machine.
    chunkNames: 'chunk-[hash]',
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
