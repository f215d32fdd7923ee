/** What the content store needs nothing of where this process may read it: the classic stores, and the helper under sudo. Loaded when it is needed. */
export { startHelper } from './helper-files.ts';
export { openOverlay2 } from './overlay2.ts';
export { openPodmanStore } from './podman.ts';
