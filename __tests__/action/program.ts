/**
 * One step of the action that uses the room src/action as the real ones do, in a process of its own: `node program.ts PART`, with what
 * the part works on as JSON on standard input.
 */
import { text } from 'node:stream/consumers';
import { runPost } from '../../src/action/post.ts';
import { fail, failPartly, openLog, writeOutputs } from '../../src/action/runner.ts';
import { CancelledError, PushError } from '../../src/common/error.ts';
import type { PushEvent } from '../../src/push/events.ts';
import type { PushResult } from '../../src/push/result.ts';

/** An error as JSON: what it is about, and the errors that it is caused by, the nearest first. */
export interface ToldError {
  readonly message: string;
  readonly step?: string;
  readonly remedy?: string;
  readonly causes?: readonly string[];
  readonly cancelled?: boolean;
}

function errorFrom({ message, step, remedy, causes = [], cancelled }: ToldError): Error {
  const cause = causes
    .toReversed()
    .reduce<Error | undefined>((inner, words) => new Error(words, { cause: inner }), undefined);
  if (cancelled) return new CancelledError(cause);
  return step === undefined
    ? new Error(message, { cause })
    : new PushError(step, message, { ...(remedy && { remedy }), cause });
}

/** What a result looks like as JSON: its failures' errors told. */
export type ToldResult = Omit<PushResult, 'failures'> & {
  readonly failures: readonly { readonly destination: string; readonly error: ToldError }[];
};

const resultFrom = ({ failures, ...rest }: ToldResult): PushResult => ({
  ...rest,
  failures: failures.map(({ destination, error }) => ({ destination, error: errorFrom(error) })),
});

/** By the names of the parts. */
const PARTS: Readonly<Record<string, (given: never) => void | Promise<void>>> = {
  post: runPost,
  outputs: (result: ToldResult) => writeOutputs(resultFrom(result)),
  fail: (error: ToldError) => fail(errorFrom(error)),
  failPartly: (result: ToldResult) => failPartly(resultFrom(result)),
  log: ({ showHost, events, closings }: { showHost: boolean; events: PushEvent[]; closings: number }) => {
    const log = openLog({ showHost });
    for (const event of events) log.report(event);
    for (let closing = 0; closing < closings; closing += 1) log.close();
  },
};

const input = await text(process.stdin);
await PARTS[process.argv[2] ?? '']!((input === '' ? undefined : JSON.parse(input)) as never);
