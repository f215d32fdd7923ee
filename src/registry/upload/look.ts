/** T1, first half: whether the blob has to be sent at all. */
import type { State } from './state.ts';
import type { Upload } from './upload.ts';

/**
 * Asks once whether the registry has the blob, as soon as its digest is known. A blob that is still being made is waited for
 * until its first chunk is complete: if it ends before, its digest is known before anything was opened.
 */
export async function look(upload: Upload): Promise<State> {
  if (upload.body.identity === undefined && !upload.isOpen) await firstChunk(upload);
  const { identity } = upload.body;
  if (identity !== undefined && !upload.looked) {
    upload.looked = true;
    if (await upload.exists(identity)) return { at: 'done', what: 'exists' };
  }
  return { at: upload.isOpen ? 'send' : 'open' };
}

async function firstChunk(upload: Upload): Promise<void> {
  if (upload.monolithic) {
    await upload.whole();
    return;
  }
  const { ended } = await upload.reach(upload.host.growingChunk + 1);
  if (ended) await upload.whole();
}
