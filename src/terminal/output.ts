/** The two streams that the command writes to, which may end or fail before it does. */

interface Output {
  readonly stdout: NodeJS.WritableStream;
  readonly stderr: NodeJS.WritableStream;
  /** Why the result could not be written; undefined while it could. */
  failure: NodeJS.ErrnoException | undefined;
}

/**
 * Keeps a push going whose lines can no longer be written: the reader has gone (`2>&1 | head -1`), the disk of the log
 * is full. The result on standard output is another matter: see `flushed`.
 */
export function watchOutput({ stdout, stderr }: Pick<NodeJS.Process, 'stdout' | 'stderr'>): Output {
  const output: Output = { stdout, stderr, failure: undefined };
  stderr.on('error', () => {});
  stdout.on('error', (error: NodeJS.ErrnoException) => {
    output.failure ??= error;
  });
  return output;
}

/**
 * Waits until everything is written: `process.exit` drops what a slow reader of a pipe has not taken yet. Resolves to
 * the exit code: that of the command, or 1 where its result is lost. A reader that has closed the pipe wants no more.
 */
export async function flushed(output: Output, code: number): Promise<number> {
  await written(output.stdout);
  const { failure } = output;
  const isLost = failure !== undefined && failure.code !== 'EPIPE';
  if (isLost) output.stderr.write(`error: standard output: ${failure.message}\n`);
  await written(output.stderr);
  return isLost && code === 0 ? 1 : code;
}

/** Resolves when all that was written before is on its way or can't be. */
const written = (stream: NodeJS.WritableStream): Promise<void> =>
  new Promise((resolve) => {
    stream.write('', () => resolve());
  });
