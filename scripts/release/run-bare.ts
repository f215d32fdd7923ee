/** Running a command in an environment that has nothing of this checkout. */
import { spawn } from 'node:child_process';
import { tmpdir } from 'node:os';
import { text } from 'node:stream/consumers';

export interface CommandResult {
  readonly exitCode: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a command to its end with this environment alone. A batch file of Windows runs in its shell, as Node.js wants it. */
export const runBare = async (
  [command = '', ...args]: readonly string[],
  env: Readonly<Record<string, string>>,
): Promise<CommandResult> => {
  const isBatch = command.endsWith('.cmd');
  const quoted = (word: string): string => (isBatch ? `"${word}"` : word);
  const child = spawn(quoted(command), args.map(quoted), {
    env,
    cwd: tmpdir(),
    shell: isBatch,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const ended = new Promise<number | null>((resolve, reject) => child.once('error', reject).once('close', resolve));
  const [stdout, stderr, exitCode] = await Promise.all([text(child.stdout), text(child.stderr), ended]);
  return { exitCode, stdout, stderr };
};
