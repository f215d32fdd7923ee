/** The names of images that lie in files. Loads nothing: it is asked before the rest of the program is there. */

/** The forms of an image outside of an engine. */
export type Transport = 'docker-archive' | 'oci-archive' | 'oci';

/** A file source taken apart: its form, and the `FILE[:ref]` or `DIR[:ref]` after it. Undefined for the name of an engine's image. */
export function fileSource(image: string): { readonly transport: Transport; readonly rest: string } | undefined {
  const [, transport, rest] = /^(docker-archive|oci-archive|oci):(.*)$/s.exec(image) ?? [];
  return rest === undefined ? undefined : { transport: transport as Transport, rest };
}
