/** T1, second half: a session for the blob, or the blob itself by a mount. */
import type { State } from './state.ts';
import type { Upload } from './upload.ts';

/** Opens a session. A blob whose digest is known is mounted, once, where another repository is thought to have it. */
export async function open(upload: Upload): Promise<State> {
  const opened = await upload.target.open({ label: upload.options.label, signal: upload.signal }, mountOf(upload));
  if (opened === 'mounted') return { at: 'done', what: 'mounted' };
  upload.opened(opened);
  return { at: 'send' };
}

function mountOf(upload: Upload): Parameters<Upload['target']['open']>[1] {
  const { mountFrom, force } = upload.options;
  const { identity } = upload.body;
  if (mountFrom === undefined || identity === undefined || upload.mountTried || force === true) return undefined;
  upload.mountTried = true;
  return { digest: identity.digest, from: mountFrom };
}
