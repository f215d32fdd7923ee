import { basename, relative, resolve, sep } from 'node:path';
import { getState } from '@actions/core';
import { type SavePlan, savePlan } from '../cache/save.ts';
import { captureConsole, print, SAVE_PLAN, workDir } from './runner.ts';

/** Saves what the main step left in the state; trouble with the cache is a warning. */
export async function runPost(): Promise<void> {
  captureConsole();
  try {
    const state = getState(SAVE_PLAN);
    if (state === '') return print('info', 'Nothing to save: the push kept no layers');
    const plan = JSON.parse(state) as SavePlan;
    confine(plan, workDir());
    await savePlan(plan, { info: (text) => print('info', text), debug: (text) => print('debug', text) });
  } catch (error) {
    print('warning', `The layer cache could not be saved: ${(error as Error).message}`);
  }
}

/**
 * Throws unless every path of the plan lies below `folder`. The state is written by the main step, but a workflow
 * command in any of its lines could write it too, and the files of a plan are saved where other workflows read, then
 * removed.
 */
function confine(plan: SavePlan, folder: string): void {
  const isInside = (path: unknown): boolean => {
    if (typeof path !== 'string') return false;
    const way = relative(folder, resolve(path));
    return way !== '' && way !== '..' && !way.startsWith(`..${sep}`) && resolve(folder, way) === resolve(path);
  };
  const paths = [plan.workspace, ...[...plan.pointers, ...plan.layers].map(({ path }) => path)];
  const outside = paths.find((path) => !isInside(path));
  if (outside !== undefined) throw new Error(`its plan names ${outside}, which is outside of ${folder}`);
  const name = [...plan.pointers, ...plan.layers].map(({ file }) => file).find((file) => basename(file) !== file);
  if (name !== undefined) throw new Error(`its plan has ${name} where the name of a file belongs`);
}
