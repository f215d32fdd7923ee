import { execFileSync, spawn } from 'node:child_process';
import { expect, it } from 'vitest';
import { layerFiles } from '../../scripts/bench/content.ts';
import { descendant, endedChildrenCpu, treeCpu } from '../../scripts/bench/meter.ts';
import { describeWith } from '../support/real/suite.ts';

// Its files are those of the machine: programs, libraries, Python's modules among them.
describeWith(['python3'], 'the content of the benchmark', () => {
  it('makes a layer of exactly so many bytes, the same for the same seed', () => {
    const files = layerFiles('a', 3_000_000);
    expect(files.reduce((sum, { bytes }) => sum + bytes, 0)).toBe(3_000_000);
    const names = (seed: string) => layerFiles(seed, 3_000_000).map(({ name, bytes }) => `${name} ${bytes}`);
    expect(names('a')).toEqual(names('a'));
    expect(names('b')).not.toEqual(names('a'));
  });
});

it('counts the CPU time of children that have ended and of those that run', async () => {
  // By its own CPU time: on a busy machine a third of a second may be much less of it.
  const busy = 'while (process.cpuUsage().user < 300_000);';
  const before = endedChildrenCpu();
  execFileSync(process.execPath, ['--eval', busy]);
  expect(endedChildrenCpu() - before).toBeGreaterThan(0.25);
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
