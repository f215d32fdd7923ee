import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { expect, it, onTestFinished } from 'vitest';
import { Activity } from './activity.ts';

it('is over when a process waits, not while it or one below it works', async () => {
  // The child of the shell works for half a second of its own CPU time, then waits.
  const work = 'while (process.cpuUsage().user < 500_000); console.log("done"); setInterval(() => {}, 1e6);';
  const child = spawn('sh', ['-c', '"$0" --eval "$1" & wait', process.execPath, work], {
    stdio: ['ignore', 'pipe', 'ignore'],
    detached: true,
  });
  onTestFinished(() => void process.kill(-child.pid!, 'SIGKILL'));
  let isDone = false;
  createInterface({ input: child.stdout }).once('line', () => {
    isDone = true;
  });
  await new Activity(child.pid!).quiet();
  expect(isDone).toBe(true);
});

it('is waited for no longer than the limit', async () => {
  const child = spawn(process.execPath, ['--eval', 'for (;;);']);
  onTestFinished(() => void child.kill('SIGKILL'));
  await new Activity(child.pid!).quiet(200);
  expect(child.exitCode).toBeNull();
});
