/** T5: the session is lost; a new one, from byte 0 of this blob. */
import type { Reopening, State } from './state.ts';
import type { Upload } from './upload.ts';

/** Gives the session up and starts again with a HEAD. Throws when the budget is spent. */
export async function reopen(upload: Upload, { error, counted }: Reopening): Promise<State> {
  upload.abandon();
  if (!counted) await upload.failed(error);
  if (!upload.budget.sessionLost()) throw upload.gaveUp(`${upload.budget.lostSessions} lost sessions in a row`, error);
  upload.looked = upload.options.force === true;
  return { at: 'look' };
}
