/** The runner's cancel: SIGINT, after 7.5 s SIGTERM, 2.5 s later the process is killed. */

/** What is left of the runner's patience for sessions to be deleted and files to be removed, with room to spare. Milliseconds. */
const CLEAN_UP_MS = 4500;

/** A signal that is aborted at the first SIGINT or SIGTERM; if the clean-up hangs, the process ends all the same. */
export function cancelSignal(): AbortSignal {
  const controller = new AbortController();
  const cancel = (signal: NodeJS.Signals) => {
    if (controller.signal.aborted) return;
    controller.abort(new Error(`received ${signal}`));
    setTimeout(() => process.exit(1), CLEAN_UP_MS).unref();
  };
  process.on('SIGINT', cancel);
  process.on('SIGTERM', cancel);
  return controller.signal;
}
