/** One of several processes on one folder, for local-store.test.ts: `node cache-writer.ts DIR SEED`. Exits 1 on wrong bytes. */
import { createHash } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { LocalStore } from '../../src/cache/local-store.ts';
import { type Digest, digestOf } from '../../src/oci/types.ts';

const [dir = '', seed = ''] = process.argv.slice(2);
const store = new LocalStore(dir, { compression: 'gzip', level: 6 });
await store.make();

for (let round = 0; round < 40; round++) {
  // All processes note blobs for the same five layers, each with bytes of its own every other round.
  const diffId: Digest = `sha256:${createHash('sha256')
    .update(String(round % 5))
    .digest('hex')}`;
  const bytes = Buffer.alloc(50_000, round % 2 ? `${seed} ${round}` : `${round}`);
  const descriptor = {
    mediaType: 'application/vnd.oci.image.layer.v1.tar+gzip',
    digest: digestOf(bytes),
    size: bytes.length,
  };
  const part = join(store.session, `part-${round}`);
  await writeFile(part, bytes);
  await store.adopt(part, { diffId, descriptor });
  await store.note({ diffId, descriptor });
  for (const layer of await store.known()) {
    const path = await store.hold(layer);
    if (path && digestOf(await readFile(path)) !== layer.descriptor.digest) process.exit(1);
  }
  await store.prune(500_000);
}
await store.close();
