/** The action's post step: saves the layer cache, after the job's other steps had their digest. Never fails the job. */

import { debug, getState, info, warning } from '@actions/core';
import { SAVE_PLAN } from './action/outputs.ts';

async function post(): Promise<void> {
  const plan = getState(SAVE_PLAN);
  if (plan === '') return info('Nothing to save: the push kept no layers');
  const { savePlan } = await import('./cache/save.ts');
  await savePlan(JSON.parse(plan), { info, debug });
}

await post().catch((error: unknown) => warning(`The layer cache could not be saved: ${(error as Error).message}`));
process.exit();
