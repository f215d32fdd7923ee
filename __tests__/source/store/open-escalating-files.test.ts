import { randomBytes } from 'node:crypto';
import { chmodSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { digestOf } from '../../../src/oci/types.ts';
import { LocalFiles, type StoreFiles } from '../../../src/source/store/files/files.ts';
import { StoreError } from '../../../src/source/store/files/folder.ts';
import { EscalatingFiles } from '../../../src/source/store/open.ts';
import { hostedUser } from '../../support/real/hosted-user.ts';
import { run } from '../../support/real/processes.ts';
import { describeWith } from '../../support/real/suite.ts';
import { writeLayer } from './layers-on-disk.ts';

/** Files that all fail with the code that a system would give. */
const failing = (code: string): StoreFiles => {
  const error = new StoreError(`cannot read: ${code}`, { code });
  const stream = () => {
    const readable = new Readable({ read: () => {} });
    readable.destroy(error);
    return readable;
  };
  const none = () => Promise.reject(error);
  return { size: none, bytes: none, range: stream, layer: stream, close: async () => {} };
};

describe('reading with the helper behind', () => {
  it('does not ask for it when something else is wrong', async () => {
    let asked = 0;
    const files = new EscalatingFiles(failing('ENOENT'), async () => {
      asked++;
      return failing('EACCES');
    });
    await expect(files.size('/x')).rejects.toThrow('ENOENT');
    await expect(files.range('/x').toArray()).rejects.toThrow('ENOENT');
    expect(asked).toBe(0);
    await files.close();
  });

  it('asks once, and then says both what was refused and why there is no helper', async () => {
    let asked = 0;
    const files = new EscalatingFiles(failing('EACCES'), async () => {
      asked++;
      throw new StoreError('sudo: no');
    });
    for (const read of [files.size('/x'), files.layer('/x', '/y').toArray(), files.range('/x').toArray()]) {
      await expect(read).rejects.toThrow('cannot read: EACCES, and sudo: no');
    }
    expect(asked).toBe(1);
    await files.close();
  });

  it('leaves files that may be read to this process', async () => {
    const root = mkdtempSync(join(tmpdir(), 'chunked-push-escalate-'));
    const whole = writeLayer(root, { a: randomBytes(100_000), b: randomBytes(10) });
    const files = new EscalatingFiles(new LocalFiles([root]), () => Promise.reject(new Error('not needed')));
    const read = Buffer.concat(await files.layer(join(root, 'tar-split.json.gz'), join(root, 'diff')).toArray());
    expect(read.equals(whole)).toBe(true);
    await files.close();
    rmSync(root, { recursive: true });
  });
});

describeWith(['sudo'], 'reading with the helper behind, as an ordinary user', () => {
  it('goes on with it in the middle of a layer, from the first file that may not be read', async () => {
    const root = mkdtempSync(join(tmpdir(), 'chunked-push-escalate-'));
    chmodSync(root, 0o755);
    const whole = writeLayer(root, {
      'first/big': randomBytes(4_000_000),
      ...Object.fromEntries(Array.from({ length: 200 }, (_, i) => [`small/${i}`, randomBytes(i)])),
      'secret/file': randomBytes(70_000),
      'last/big': randomBytes(2_000_000),
    });
    chmodSync(join(root, 'diff/secret/file'), 0);
    const script = fileURLToPath(new URL('escalate-as-user.ts', import.meta.url));
    const user = await hostedUser();
    const [program = '', ...args] = user.command([process.execPath, script, root]);
    const outcome = JSON.parse(await run(program, args, { env: { ...process.env, ...user.env } }));
    expect(outcome).toMatchObject({ askedBefore: 0, asked: 1 });
    expect(outcome.layers).toEqual(Array(2).fill({ digest: digestOf(whole), size: whole.length }));
    expect(outcome.size).toBe(outcome.readable.size);
    rmSync(root, { recursive: true });
    user.remove();
  });
});
