/** The action's main step. What it consists of is loaded while the engine answers the first question. */
import './heap.ts';
import './wasm.ts';
import { askEngineEarly } from './push/early.ts';

const { INPUT_IMAGE: image = '', INPUT_ENGINE: engine = '', INPUT_EXPORT: way = '' } = process.env;
await askEngineEarly({ image, engine, export: way }, process.env);
const { runStep } = await import('./action/step.ts');
await runStep();
// Nothing is left to do; a connection that is kept alive must not keep the job waiting.
process.exit();
