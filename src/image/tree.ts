/** What a push does with an image's documents: read them in order, choose platforms, put compressed layers in. */
export { buildTree, type Found, withoutManifests, withReferrers } from './tree-build.ts';
export { composeManifest, rewriteTree } from './tree-rewrite.ts';
export { parsePlatform, type Selection, selectPlatforms } from './tree-select.ts';
export { type TreeDocument, type TreeManifest, type TreeWalk, walk } from './tree-walk.ts';
