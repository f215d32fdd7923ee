/** Compiles the compressor (packages/deflate/assembly, AssemblyScript) to WebAssembly. */
import { relative } from 'node:path';
import { main as asc } from 'assemblyscript/asc';

/** No allocator, no imports, and exactly the memory that layout.ts lays out: 44 pages of 64 KiB. */
const OPTIONS = ['-O3', '--converge', '--noAssert', '--runtime', 'stub', '--use', 'abort=', '--enable', 'simd'];
const MEMORY = ['--initialMemory', '44', '--maximumMemory', '44'];

/** Writes the module to `outFile`. Throws the compiler's words, warnings among them. */
export async function compileDeflate(root: string, outFile: string): Promise<void> {
  // Paths are taken from the project's folder, and none of them is named in the module.
  const files = ['packages/deflate/assembly/index.ts', '--outFile', relative(root, outFile), '--baseDir', root];
  const { error, stderr } = await asc([...files, ...OPTIONS, ...MEMORY]);
  if (error || `${stderr}` !== '') throw new Error(`deflate could not be compiled: ${stderr}`, { cause: error });
}
