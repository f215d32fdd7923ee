import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { expect, it } from 'vitest';
import { MIB } from './layers.ts';

const script = fileURLToPath(new URL('peak.ts', import.meta.url));

const peakOf = async (compression: string, bytes: number): Promise<number> =>
  Number((await promisify(execFile)(process.execPath, [script, compression, String(bytes)])).stdout);

for (const compression of ['gzip', 'zstd']) {
  it(`${compression}: a layer eight times as large takes no more memory`, async () => {
    const small = await peakOf(compression, 16 * MIB);
    const large = await peakOf(compression, 128 * MIB);
    expect(large - small).toBeLessThan(60 * MIB);
  });
}
