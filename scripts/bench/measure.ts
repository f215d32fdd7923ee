/** Runs contestants in turn, round by round, and writes down what each run cost. */
import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { type Docker, partOfDocker } from '../../__tests__/support/real/docker.ts';
import { commandOf } from '../../__tests__/support/real/parts.ts';
import { run } from '../../__tests__/support/real/processes.ts';
import { type Contestant, runnerTemp, toolTemp } from './contestants.ts';
import { endedChildrenCpu, peakDiskOf, treeCpu } from './meter.ts';
import type { Attempt } from './results.ts';
import type { World } from './world.ts';

/** Runs each contestant once a round, in another order each time. Gives every attempt as it ends. */
export async function* inRounds(
  world: World,
  contestants: readonly Contestant[],
  rounds: number,
  isOnce: (contestant: Contestant) => boolean = () => false,
): AsyncGenerator<{ contestant: Contestant; attempt: Attempt }> {
  for (let round = 0; round < rounds; round++) {
    for (const contestant of inOrder(contestants, round)) {
      if (round > 0 && isOnce(contestant)) continue;
      yield { contestant, attempt: await measure(world, contestant) };
      const { keepAs } = contestant;
      if (keepAs !== undefined && !world.state.has(keepAs)) await world.state.keep(keepAs);
    }
  }
}

/**
 * `A B C, C B A, B C A, A C B, …`: what else the machine does meanwhile befalls all alike, and each comes after the one before it as
 * often as after the one behind it. Who follows 20 s of export finds the processor's caches full of it and the memory given back; who
 * follows an engine that was started for `docker push` finds it still busy with itself.
 */
export function inOrder<T>(contestants: readonly T[], round: number): T[] {
  const first = Math.floor(round / 2) % contestants.length;
  const order = [...contestants.slice(first), ...contestants.slice(0, first)];
  return round % 2 === 0 ? order : order.reverse();
}

/**
 * Reads the programs of short pushes: this machine gives memory back to its host, and what an export of 20 s has driven out would be
 * read from disk by whoever comes next. In a job both were used a moment ago: Node by the step before, docker by the build.
 */
async function inMemory(world: World, engine: Docker | undefined): Promise<void> {
  const docker = engine && commandOf(partOfDocker(engine.version), 'docker');
  const folders = [process.execPath, join(world.action, 'dist'), ...(docker ? [docker] : [])];
  await run('sh', ['-c', 'find -L "$@" -type f -exec cat {} + > /dev/null', 'sh', ...folders]);
}

async function measure(world: World, contestant: Contestant): Promise<Attempt> {
  rmSync(toolTemp(world), { recursive: true, force: true });
  mkdirSync(toolTemp(world));
  await contestant.prepare();
  const engine = contestant.engine && (await world.engine(contestant.engine));
  // What an earlier run left to be written would slow this one.
  await run('sync', []);
  await inMemory(world, engine);
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
