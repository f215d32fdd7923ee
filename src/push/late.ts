/** What a push needs nothing of that finds every layer in the registry, or sends them as they lie in a store. Loaded when it is needed. */
export { LayerCache } from '../cache/layer-cache.ts';
export { CompressorPool } from '../layer/compress/pool.ts';
export { Spool } from '../layer/spool.ts';
export { learnFromRegistry } from './learn.ts';
export { Workshop } from './workshop.ts';
