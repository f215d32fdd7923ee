/**
 * The upload of one blob as a state machine. registry-rules in one picture:
 *
 *   look (HEAD) ──> open (POST) ──> send (PATCH …, PUT) ──> done
 *     ^  │ 200                        │  ^  │
 *     │  └──> done                    │  │  └─ PUT in doubt ──> settle (HEAD, HEAD …) ──> done
 *     │                    PATCH in doubt│                            │ absent
 *     │                               v  │ offset known               │
 *     │                              ask (GET)                        │
 *     │                               │ session gone                  │
 *     └────────── reopen <────────────┴───────────────────────────────┘
 *
 * Too large a body (T6) and no chunks (T7) go to `look` directly, with a smaller chunk or none. What keeps it finite: every
 * failed try is counted (Budget), every T6 halves the chunk, T7 happens once.
 */
import { ask } from './ask.ts';
import { look } from './look.ts';
import { open } from './open.ts';
import { reopen } from './reopen.ts';
import { send } from './send.ts';
import { settle } from './settle.ts';
import type { State } from './state.ts';
import type { BlobOutcome, Upload } from './upload.ts';

/** Takes one step from a state that is not the last one. */
function step(upload: Upload, state: Exclude<State, { at: 'done' }>): Promise<State> {
  switch (state.at) {
    case 'look':
      return look(upload);
    case 'open':
      return open(upload);
    case 'send':
      return send(upload);
    case 'ask':
      return ask(upload, state);
    case 'reopen':
      return reopen(upload, state);
    case 'settle':
      return settle(upload, state);
  }
}

/**
 * Brings a blob into a repository. Throws RegistryError (an answer or the network), UploadError (limits, budget), what the
 * body rejects with, or the signal's reason. After an abort the session stays open for whoever closes the registry.
 */
export async function run(upload: Upload): Promise<BlobOutcome> {
  let state: State = { at: 'look' };
  try {
    while (state.at !== 'done') state = await step(upload, state);
  } catch (error) {
    upload.signal.throwIfAborted();
    upload.abandon();
    throw error;
  }
  if (state.what !== 'uploaded') upload.abandon();
  return outcome(upload, state.what);
}

async function outcome(upload: Upload, what: BlobOutcome['what']): Promise<BlobOutcome> {
  const identity = await upload.whole();
  const { bytesSent, waitedMs, sendingMs } = upload.traffic;
  upload.options.onProgress?.(identity.size);
  const bytesResent = Math.max(0, bytesSent - identity.size);
  return { what, identity, bytesSent, bytesResent, retries: upload.budget.retries, waitedMs, sendingMs };
}
