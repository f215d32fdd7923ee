/** What takes time to load and most pushes need nothing of: archives, layouts, `save`, and the engine's own push. Loaded when it is needed. */
export { enginePush } from './engine/push.ts';
export { saveStream } from './engine/save.ts';
export { findInFile } from './find-file.ts';
