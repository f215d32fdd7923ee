/** Every flag of the command, once: parsing, --help and shell completion are made of this table. */

import type { InputName } from '../push/input-values.ts';

export interface Flag {
  readonly name: string;
  /** The input that it sets; undefined for what only the command has. */
  readonly input?: InputName;
  /** What stands for its value in the help; without one the flag is a switch. */
  readonly value?: string;
  /** The values that there are, for completion. */
  readonly choices?: readonly string[];
  readonly multiple?: boolean;
  readonly short?: string;
  /** Lines of the help. */
  readonly help: string;
}

export interface FlagGroup {
  readonly title: string;
  readonly example: string;
  readonly flags: readonly Flag[];
}

export const GROUPS: readonly FlagGroup[] = [
  {
    title: 'What goes where',
    example: 'chunked-push app:1.2 --to registry.example.com/team/app:1.2',
    flags: [
      {
        name: 'to',
        input: 'tags',
        value: 'REFERENCE',
        multiple: true,
        help: 'where to push it (default: IMAGE); several times for several tags, repositories, registries',
      },
      {
        name: 'image',
        input: 'image',
        value: 'IMAGE',
        multiple: true,
        help: 'one of several images, each with its own name; no tag is written before all are there',
      },
      { name: 'platforms', input: 'platforms', value: 'LIST', help: 'linux/amd64,linux/arm64 (default: all present)' },
      { name: 'push-by-digest', input: 'push-by-digest', help: 'push the manifests and write no tag' },
      {
        name: 'annotations',
        input: 'annotations',
        value: 'KEY=VALUE',
        multiple: true,
        help: 'of the index (index:KEY=VALUE) or of manifests; several times',
      },
    ],
  },
  {
    title: 'Merging images of several platforms into one index',
    example: 'chunked-push --merge registry.example.com/app:1-* --to registry.example.com/app:1',
    flags: [
      {
        name: 'merge',
        input: 'merge',
        value: 'REFERENCE',
        multiple: true,
        help: 'images in the registry that become the index; a tag may end in *',
      },
      { name: 'merge-cleanup', input: 'merge-cleanup', help: 'then delete the tags that a * matched' },
    ],
  },
  {
    title: 'Access to the registry',
    example: 'chunked-push app:1.2 --username ci --password-stdin < password.txt',
    flags: [
      {
        name: 'username',
        input: 'username',
        value: 'NAME',
        help: 'user name (default: what docker login or podman login has stored)',
      },
      { name: 'password-stdin', help: 'read the password from standard input' },
      { name: 'insecure', input: 'insecure', help: 'plain HTTP (always allowed on loopback)' },
      { name: 'ca-file', input: 'ca-file', value: 'FILE', help: 'extra CA certificates' },
      {
        name: 'tls-verify',
        input: 'tls-verify',
        value: 'BOOL',
        choices: ['true', 'false'],
        help: 'false: accept any certificate',
      },
    ],
  },
  {
    title: 'How it is sent',
    example: 'chunked-push app:1.2 --chunk-size 10MB --max-wait 30m',
    flags: [
      { name: 'chunk-size', input: 'chunk-size', value: 'SIZE', help: 'largest request body: 95MB, 64MiB, auto' },
      { name: 'concurrency', input: 'concurrency', value: 'N', help: 'blobs uploaded at once (5)' },
      { name: 'max-retries', input: 'max-retries', value: 'N', help: 'failed tries in a row without progress (3)' },
      {
        name: 'max-wait',
        input: 'max-wait',
        value: 'DURATION',
        help: 'how long a registry may be away: 30s, 10m (10m)',
      },
      {
        name: 'fallback',
        input: 'fallback',
        value: 'WHO',
        choices: ['none', 'engine'],
        help: "engine: run the engine's own push when this one fails",
      },
    ],
  },
  {
    title: 'Where layers come from, and how they are compressed',
    example: 'chunked-push app:1.2 --compression zstd --compression-level 3',
    flags: [
      {
        name: 'engine',
        input: 'engine',
        value: 'ENGINE',
        choices: ['auto', 'docker', 'podman'],
        help: 'auto, docker, podman',
      },
      { name: 'export', input: 'export', value: 'HOW', choices: ['auto', 'save', 'store'], help: 'auto, save, store' },
      { name: 'compression', input: 'compression', value: 'KIND', choices: ['gzip', 'zstd'], help: 'gzip, zstd' },
      { name: 'compression-level', input: 'compression-level', value: 'N', help: 'gzip 1 to 9, zstd 1 to 19' },
      { name: 'force-compression', input: 'force-compression', help: 'compress layers again that have another kind' },
      { name: 'no-cache', help: 'keep no compressed layers on this machine' },
      {
        name: 'cache-from',
        input: 'cache-from',
        value: 'REFERENCE',
        multiple: true,
        help: 'image whose layers may be reused; several times',
      },
      { name: 'cache-max-size', input: 'cache-max-size', value: 'SIZE', help: 'the most that is kept (2GiB)' },
    ],
  },
  {
    title: 'What it says',
    example: 'chunked-push app:1.2 --json | jq -r .digest',
    flags: [
      { name: 'dry-run', input: 'dry-run', help: 'say what would be uploaded, change nothing' },
      { name: 'json', help: 'print digest, image ID and metadata as JSON' },
      { name: 'verbose', help: 'say more' },
      { name: 'help', short: 'h', help: 'this text' },
      { name: 'version', help: 'the version' },
    ],
  },
];

export const FLAGS: readonly Flag[] = GROUPS.flatMap(({ flags }) => flags);

/** The commands that may stand where an image does. */
export const COMMANDS = ['doctor', 'completion'] as const;
