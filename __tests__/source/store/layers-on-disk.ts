/** A layer as it would lie in a store, without an engine. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { gzipSync } from 'node:zlib';

/** Writes files to ROOT/diff and a ROOT/tar-split.json.gz that puts a mark before each; gives the bytes that they make. */
export const writeLayer = (root: string, files: Readonly<Record<string, Buffer>>): Buffer => {
  const lines: string[] = [];
  const whole: Buffer[] = [];
  mkdirSync(join(root, 'diff'), { recursive: true });
  for (const [name, body] of Object.entries(files)) {
    mkdirSync(join(root, 'diff', dirname(name)), { recursive: true });
    writeFileSync(join(root, 'diff', name), body);
    const mark = Buffer.from(`<${name}>`);
    lines.push(JSON.stringify({ type: 2, payload: mark.toString('base64') }));
    lines.push(JSON.stringify({ type: 1, name, size: body.length || undefined, payload: 'AAAAAAAAAAA=' }));
    whole.push(mark, body);
  }
  writeFileSync(join(root, 'tar-split.json.gz'), gzipSync(`${lines.join('\n')}\n`));
  return Buffer.concat(whole);
};
