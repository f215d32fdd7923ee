/** A process that makes a spool or a layer cache below a folder, or notes an upload session in it, tells its parent, and waits to be killed. */
import { join } from 'node:path';
import { ownName } from '../../src/blob/private-folder.ts';
import { Spool } from '../../src/blob/spool.ts';
import { LocalStore } from '../../src/cache/local-store.ts';
import { UploadSessions } from '../../src/cache/upload-sessions.ts';

const [folder, repository, blob, location] = process.argv.slice(2) as [string, ...string[]];
if (repository === 'cache') {
  const store = new LocalStore(folder, { compression: 'gzip', level: 6 });
  await store.make();
  process.send!(store.session);
} else if (repository === undefined) {
  const spool = await Spool.open(join(folder, ownName('spool-')));
  await spool.file().append(Buffer.alloc(1000));
  process.send!(spool.dir);
} else {
  new UploadSessions(folder).note(repository, blob!, { location: location!, offset: 1000, chunkSize: 500 });
  process.send!('noted');
}
setInterval(() => {}, 1000);
