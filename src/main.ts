/** The action's main step. */
import { runStep } from './action/run.ts';

await runStep();
// Nothing is left to do; a connection that is kept alive must not keep the job waiting.
process.exit();
