/** Whether a transfer brought all of an image. */
import type { ImageTree } from '../image/source.ts';
import { PushError } from './error.ts';
import type { Piece } from './pieces.ts';
import type { Transfer } from './transfer.ts';

/** Every piece of a tree is in the registry or on its way; otherwise says which one is in neither place, and what to do. */
export function assertWhole(transfer: Transfer, pieces: readonly Piece[], tree: ImageTree): void {
  const missing = pieces.filter(({ key }) => !transfer.isTaken(key));
  if (missing.length === 0) return;
  const [first] = missing as [Piece];
  const reason = transfer.spoiled.get(first.key);
  if (reason !== undefined) throw reason;
  const names = missing.map(({ key }) => key).join(', ');
  const what = tree.kind === 'composed' ? 'the image' : 'a manifest of the image';
  throw new PushError('Export', `${what} names ${names}, which neither the export nor the registry has`, {
    // https://github.com/moby/moby/issues/49473: `docker save` leaves out layers that the store shares or never pulled.
    remedy: 'pull or build the image again so that all of its layers are on this machine, then push it',
  });
}
