/**
 * Reads a layer as an ordinary user who may not read all of it: `escalate-as-user.ts UID ROOT`. The helper is started with
 * the rights of whoever runs the tests, which are then given up. Prints how often the helper was asked for, and the digests.
 */
import { join } from 'node:path';
import { EscalatingFiles } from '../../../src/source/store/escalating-files.ts';
import { LocalFiles } from '../../../src/source/store/files/files.ts';
import { startHelper } from '../../../src/source/store/helper/client.ts';
import { digestOfStream } from './reading.ts';

const [uid, root] = [Number(process.argv[2]), process.argv[3]!];
const isRoot = process.getuid?.() === 0;
const helper = await startHelper([root], {
  env: process.env,
  signal: new AbortController().signal,
  ...(isRoot ? { prefix: [] } : {}),
});
if (isRoot) {
  process.setgroups?.([]);
  process.setgid?.(uid);
  process.setuid?.(uid);
}
let asked = 0;
const files = new EscalatingFiles(new LocalFiles([root]), async () => {
  asked++;
  return helper;
});
const [record, folder] = [join(root, 'tar-split.json.gz'), join(root, 'diff')];
const readable = await digestOfStream(files.range(record));
const askedBefore = asked;
const layers = await Promise.all([1, 2].map(() => digestOfStream(files.layer(record, folder))));
const size = await files.size(record);
await files.close();
process.stdout.write(JSON.stringify({ askedBefore, asked, readable, layers, size }));
