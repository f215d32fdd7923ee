/** How much of an image is believed before it is called absurd. Archives may be made to harm: each bound ends in one error. */

/** The largest JSON document that is kept in memory, bytes. Registries refuse larger manifests (distribution-spec, "Pushing manifests"). */
export const MAX_DOCUMENT_BYTES = 4 * 1024 * 1024;

/** All documents of one image together, bytes. Real images have some tens of KiB. */
export const MAX_KEPT_BYTES = 64 * 1024 * 1024;

/** Entries of one archive. An image has at most 127 layers on overlay2; an index of many platforms has some hundred blobs. */
export const MAX_ENTRIES = 100_000;

/** Manifests below one root. */
export const MAX_MANIFESTS = 10_000;

/** Indexes in indexes. containerd stops at no depth of its own; real layouts have two levels. */
export const MAX_DEPTH = 16;

/** Symlinks and hard links that are followed from one name, as Linux does (MAXSYMLINKS is 40). */
export const MAX_LINKS = 40;
