import { execFileSync, spawn } from 'node:child_process';
import { expect, it } from 'vitest';
import { layerFiles } from '../../scripts/bench/content.ts';
import { descendant, endedChildrenCpu, treeCpu } from '../../scripts/bench/meter.ts';

// It looks at all programs and libraries of the machine, once.
it('makes a layer of exactly so many bytes, the same for the same seed', { timeout: 120_000 }, () => {
  const files = layerFiles('a', 3_000_000);
  expect(files.reduce((sum, { bytes }) => sum + bytes, 0)).toBe(3_000_000);
  const names = (seed: string) => layerFiles(seed, 3_000_000).map(({ name, bytes }) => `${name} ${bytes}`);
  expect(names('a')).toEqual(names('a'));
  expect(names('b')).not.toEqual(names('a'));
});

it('counts the CPU time of children that have ended and of those that run', async () => {
  const busy = 'const end = Date.now() + 300; while (Date.now() < end);';
  const before = endedChildrenCpu();
  execFileSync(process.execPath, ['--eval', busy]);
  expect(endedChildrenCpu() - before).toBeGreaterThan(0.05);
  const child = spawn('sh', ['-c', `sleep 60 & wait`]);
  try {
    await expect.poll(() => descendant('sleep')).toBeDefined();
    expect(descendant('no-such-program')).toBeUndefined();
    expect(treeCpu(process.pid)).toBeGreaterThan(0);
  } finally {
    const sleeping = descendant('sleep');
    if (sleeping !== undefined) process.kill(sleeping);
    child.kill();
  }
});
