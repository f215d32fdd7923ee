/** The action's main step. What it consists of is loaded while the engine answers the first question. */
import './heap.ts';
import { askEngineEarly } from './push/early.ts';

const { INPUT_IMAGE: image = '', INPUT_ENGINE: engine = '', INPUT_EXPORT: way = '' } = process.env;
const asked = await askEngineEarly({ image, engine, export: way }, process.env);
const { runStep } = await import('./action/step.ts');
await runStep(asked);
// Nothing is left to do; a connection that is kept alive must not keep the job waiting.
process.exit();
