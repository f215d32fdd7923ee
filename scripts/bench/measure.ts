/** Runs contestants in turn, round by round, and writes down what each run cost. */
import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { run } from '../../__tests__/support/real/processes.ts';
import { type Contestant, runnerTemp, toolTemp } from './contestants.ts';
import { endedChildrenCpu, peakDiskOf, treeCpu } from './meter.ts';
import type { Attempt } from './results.ts';
import type { World } from './world.ts';

/**
 * `A B C, B C A, …`: what else the machine does meanwhile befalls all alike, and each comes after each: who follows 20 s of export
 * finds the processor's caches full of it, and the memory given back. Gives every attempt as it ends.
 */
export async function* inRounds(
  world: World,
  contestants: readonly Contestant[],
  rounds: number,
  isOnce: (contestant: Contestant) => boolean = () => false,
): AsyncGenerator<{ contestant: Contestant; attempt: Attempt }> {
  for (let round = 0; round < rounds; round++) {
    const first = round % contestants.length;
    for (const contestant of [...contestants.slice(first), ...contestants.slice(0, first)]) {
      if (round > 0 && isOnce(contestant)) continue;
      yield { contestant, attempt: await measure(world, contestant) };
      const { keepAs } = contestant;
      if (keepAs !== undefined && !world.state.has(keepAs)) await world.state.keep(keepAs);
    }
  }
}

async function measure(world: World, contestant: Contestant): Promise<Attempt> {
  rmSync(toolTemp(world), { recursive: true, force: true });
  mkdirSync(toolTemp(world));
  await contestant.prepare();
  const engine = contestant.engine && (await world.engine(contestant.engine));
  // What an earlier run left to be written would slow this one.
  await run('sync', []);
  const stored = await world.state.blobBytes();
  const folders = [toolTemp(world), runnerTemp(world), ...(engine ? [join(engine.dataRoot, 'tmp')] : [])];
  const disk = await peakDiskOf(folders);
  const cpu = () => ({
    clientCpu: endedChildrenCpu(),
    daemonCpu: treeCpu(engine?.pid),
    registryCpu: treeCpu(world.registryPid),
  });
  const before = cpu();
  const told = await contestant.run();
  const after = cpu();
  return {
    ...told,
    clientCpu: after.clientCpu - before.clientCpu,
    daemonCpu: after.daemonCpu - before.daemonCpu,
    registryCpu: after.registryCpu - before.registryCpu,
    peakDisk: await disk.stop(),
    stored: (await world.state.blobBytes()) - stored,
  };
}
