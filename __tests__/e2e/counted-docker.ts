/** A `docker` in front of the engine's own client, which counts how often an image is exported. */
import { chmodSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { commandOf, type PartName } from '../support/real/parts.ts';

export interface CountedDocker {
  /** A PATH that finds it first. */
  readonly path: string;
  /** The calls of `docker save` so far. */
  saves(): number;
}

/** Puts it into `folder`. `path`: the PATH behind it. */
export function countDocker(folder: string, part: PartName, path: string): CountedDocker {
  const calls = join(folder, 'calls');
  const shim = join(folder, 'bin', 'docker');
  mkdirSync(join(folder, 'bin'), { recursive: true });
  const script = `#!/bin/sh\necho "$1" >>'${calls}'\nexec '${commandOf(part, 'docker')}' "$@"\n`;
  writeFileSync(shim, script);
  chmodSync(shim, 0o755);
  const lines = () => (existsSync(calls) ? readFileSync(calls, 'utf8').split('\n') : []);
  return {
    path: [join(folder, 'bin'), path].join(delimiter),
    saves: () => lines().filter((line) => line === 'save').length,
  };
}
