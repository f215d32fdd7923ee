/**
 * Reads a layer as a user who may not read all of it, with the helper under sudo behind: `escalate-as-user.ts ROOT`. Prints
 * how often the helper was asked for, and the digests.
 */
import { join } from 'node:path';
import { LocalFiles } from '../../../src/source/store/files/files.ts';
import { startHelper } from '../../../src/source/store/helper/client.ts';
import { EscalatingFiles } from '../../../src/source/store/open.ts';
import { digestOfStream } from './reading.ts';

const root = process.argv[2]!;
const helper = await startHelper([root], { env: process.env, signal: new AbortController().signal });
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
