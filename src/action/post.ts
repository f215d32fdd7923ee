/** The action's post step: saves the layer cache, after the job's other steps had their digest. Never fails the job. */
import { debug, getState, info, warning } from '@actions/core';
import { savePlan } from '../cache/save.ts';
import { SAVE_PLAN } from './outputs.ts';

/** Saves what the main step left in the state; trouble with the cache is a warning. */
export async function runPost(): Promise<void> {
  try {
    const plan = getState(SAVE_PLAN);
    if (plan === '') info('Nothing to save: the push kept no layers');
    else await savePlan(JSON.parse(plan), { info, debug });
  } catch (error) {
    warning(`The layer cache could not be saved: ${(error as Error).message}`);
  }
}
