/**
 * Which layer a `<v1 ID>/layer.tar` is, before its bytes are read: `docker save` before version 25 names layers by the
 * IDs of Docker 1.9. Such an ID is the sha256 of the layer's `json`, which comes just before its tar, together with the
 * layer's chainID; so it proves which of the image's layers it belongs to.
 * https://github.com/moby/moby/blob/v24.0.9/image/v1/imagev1.go (CreateID),
 * https://github.com/moby/moby/blob/v24.0.9/image/tarexport/save.go
 */
import { chainIdsOf } from '../../oci/chain-id.ts';
import { type Digest, digestOf } from '../../oci/types.ts';

type Json = Readonly<Record<string, unknown>>;

export class LegacyLayers {
  readonly #diffIds: readonly Digest[];
  readonly #chainIds: readonly Digest[];
  readonly #byFolder = new Map<string, Digest>();

  /** `diffIds`: those of the image from the base up, as its engine reported them. */
  constructor(diffIds: readonly Digest[]) {
    this.#diffIds = diffIds;
    this.#chainIds = chainIdsOf(diffIds);
  }

  /** Reads the `json` of a folder. One that proves nothing is left out: its layer is known once it was hashed. */
  read(folder: string, bytes: Buffer): void {
    const document = objectOf(bytes);
    const position = document ? this.#chainIds.findIndex((chainId) => isIdOf(folder, document, chainId)) : -1;
    if (position >= 0) this.#byFolder.set(folder, this.#diffIds[position]!);
  }

  /**
   * The diffID of the `layer.tar` in a folder: by its `json`, or because only one layer is left. Undefined when only
   * its bytes tell.
   */
  diffIdOf(folder: string): Digest | undefined {
    const known = this.#byFolder.get(folder);
    if (known !== undefined) return known;
    const named = new Set(this.#byFolder.values());
    const left = [...new Set(this.#diffIds)].filter((diffId) => !named.has(diffId));
    if (left.length !== 1) return undefined;
    this.#byFolder.set(folder, left[0]!);
    return left[0];
  }
}

/**
 * Go writes these characters of strings as escapes; JSON.stringify does not. https://pkg.go.dev/encoding/json#Marshal
 */
const ESCAPED_BY_GO = /[<>&\u2028\u2029]/g;

/** Whether a v1 ID was made of this document and a chainID. */
function isIdOf(id: string, { id: _, parent, os, ...document }: Json, chainId: Digest): boolean {
  const made = {
    ...document,
    layer_id: chainId,
    ...(typeof parent === 'string' ? { parent: `sha256:${parent}` } : {}),
  };
  // The `os` of all layers but the topmost is added after their ID was made.
  return [made, { ...made, os }].some((one) => digestOf(Buffer.from(goJson(one))) === `sha256:${id}`);
}

/** A map as Go's json.Marshal writes it: sorted by its keys, those of the objects in it in their order. */
function goJson(map: Json): string {
  const sorted = Object.fromEntries(Object.entries(map).sort(([one], [other]) => (one < other ? -1 : 1)));
  const escaped = (letter: string) => `\\u${letter.charCodeAt(0).toString(16).padStart(4, '0')}`;
  return JSON.stringify(sorted).replace(ESCAPED_BY_GO, escaped);
}

function objectOf(bytes: Buffer): Json | undefined {
  try {
    const value: unknown = JSON.parse(bytes.toString('utf8'));
    return typeof value === 'object' && value !== null ? (value as Json) : undefined;
  } catch {
    return undefined;
  }
}
