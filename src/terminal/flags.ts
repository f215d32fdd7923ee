/** The command line: flags named as the action's inputs. */

import { parseArgs } from 'node:util';
import type { InputName, RawInputs } from '../push/input-values.ts';

export const USAGE = `Usage: chunked-push IMAGE [--to REFERENCE]...
       chunked-push --image IMAGE --image IMAGE...
       chunked-push --merge REFERENCE... --to REFERENCE...

Pushes a container image to OCI registries in chunks.

IMAGE is an image name or ID in Docker or Podman, or a file source:
  docker-archive:FILE[:REF]  oci-archive:FILE[:REF]  oci:DIR[:REF]
(FILE may be -, for standard input)
or an image in a registry: docker://REFERENCE

  --to REFERENCE             where to push it; several times for several tags,
                             repositories, registries (default: IMAGE)
  --image IMAGE              one of several images, each with its own name; no
                             tag is written before all of them are there
  --merge REFERENCE...       make one multi-platform index of images in the
                             registry; a tag may end in *
  --merge-cleanup            after a merge, delete the tags that a * matched
  --annotations KEY=VALUE    of the index (index:KEY=VALUE) or of manifests;
                             several times
  --push-by-digest           push the manifests and write no tag
  --username NAME            user name for the registry (default: what docker
                             login or podman login has stored)
  --password-stdin           read the password from standard input
  --engine ENGINE            auto, docker, podman
  --export HOW               auto, save, store
  --platforms LIST           linux/amd64,linux/arm64 (default: all present)
  --chunk-size SIZE          largest request body: 95MB, 64MiB, auto
  --concurrency N            blobs uploaded at once (5)
  --max-retries N            failed tries in a row without progress (3)
  --max-wait DURATION        how long a registry may be away: 30s, 10m (10m)
  --compression KIND         gzip, zstd
  --compression-level N
  --force-compression        compress layers again that have another kind
  --no-cache                 keep no compressed layers in ~/.cache
  --cache-from REFERENCE     image whose layers may be reused; several times
  --cache-max-size SIZE      the most that is kept there (2GiB)
  --fallback engine          run the engine's own push when this one fails
  --insecure                 plain HTTP (always allowed on loopback)
  --ca-file FILE             extra CA certificates (PEM)
  --tls-verify BOOL          false: accept any certificate
  --dry-run                  say what would be uploaded, change nothing
  --json                     print digest, image ID and metadata as JSON
  --verbose                  say more
  --help, --version

Prints REGISTRY/REPOSITORY@DIGEST on standard output; all else goes to
standard error. Exit codes: 0 pushed, 1 failed, 2 wrong usage, 130 cancelled.
`;

export interface Command {
  readonly inputs: RawInputs;
  readonly passwordFromStdin: boolean;
  readonly json: boolean;
  readonly verbose: boolean;
  readonly show: 'usage' | 'version' | undefined;
}

/** A command line that can't be used. */
export class UsageError extends Error {}

const TEXT_FLAGS = [
  'username',
  'engine',
  'export',
  'platforms',
  'chunk-size',
  'concurrency',
  'max-retries',
  'max-wait',
  'compression',
  'compression-level',
  'cache-max-size',
  'fallback',
  'ca-file',
  'tls-verify',
] as const satisfies readonly InputName[];

const OPTIONS = {
  ...Object.fromEntries(TEXT_FLAGS.map((name) => [name, { type: 'string' as const }])),
  to: { type: 'string', multiple: true },
  image: { type: 'string', multiple: true },
  merge: { type: 'string', multiple: true },
  annotations: { type: 'string', multiple: true },
  'merge-cleanup': { type: 'boolean' },
  'push-by-digest': { type: 'boolean' },
  'force-compression': { type: 'boolean' },
  'cache-from': { type: 'string', multiple: true },
  'password-stdin': { type: 'boolean' },
  'no-cache': { type: 'boolean' },
  insecure: { type: 'boolean' },
  'dry-run': { type: 'boolean' },
  json: { type: 'boolean' },
  verbose: { type: 'boolean' },
  help: { type: 'boolean', short: 'h' },
  version: { type: 'boolean' },
} as const;

/** An archive that comes on standard input: source/archive/archive-file.ts. */
const STDIN_SOURCE = /^(docker|oci)-archive:(-|\/dev\/stdin)(:|$)/;

/** Reads the command line. Throws UsageError. */
export function parseFlags(args: readonly string[]): Command {
  const { values, positionals } = parsed(args);
  const show = values.help ? 'usage' : values.version ? 'version' : undefined;
  const images = [...positionals, ...(values.image ?? [])];
  // `--merge A B C --to D`: the words after the first belong to the merge too.
  const merge = values.merge ? [...values.merge, ...positionals] : [];
  if (show === undefined && merge.length === 0) {
    if (images.length === 0) throw new UsageError('IMAGE is missing');
    if (positionals.length > 1) {
      throw new UsageError(`one IMAGE at a time: ${positionals.join(' ')} (several: --image IMAGE --image IMAGE)`);
    }
  }
  if (values['password-stdin'] && images.some((image) => STDIN_SOURCE.test(image))) {
    throw new UsageError(
      'standard input is either the password or the image: use docker login, or give the image as a file',
    );
  }
  const texts = Object.fromEntries(
    TEXT_FLAGS.flatMap((name) => {
      const value = (values as Record<string, unknown>)[name];
      return typeof value === 'string' ? [[name, value]] : [];
    }),
  );
  return {
    inputs: {
      ...texts,
      image: merge.length > 0 ? (values.image ?? []).join('\n') : images.join('\n'),
      merge: merge.join('\n'),
      annotations: (values.annotations ?? []).join('\n'),
      'merge-cleanup': values['merge-cleanup'] ? 'true' : 'false',
      'push-by-digest': values['push-by-digest'] ? 'true' : 'false',
      'force-compression': values['force-compression'] ? 'true' : 'false',
      tags: (values.to ?? []).join('\n'),
      'cache-from': (values['cache-from'] ?? []).join('\n'),
      cache: values['no-cache'] ? 'false' : 'true',
      insecure: values.insecure ? 'true' : 'false',
      'dry-run': values['dry-run'] ? 'true' : 'false',
    },
    passwordFromStdin: values['password-stdin'] === true,
    json: values.json === true,
    verbose: values.verbose === true,
    show,
  };
}

function parsed(args: readonly string[]) {
  try {
    return parseArgs({ args: [...args], options: OPTIONS, allowPositionals: true });
  } catch (cause) {
    throw new UsageError((cause as Error).message, { cause });
  }
}
