/**
 * An engine's own files spoiled while the action reads them, and whole again for the engine itself: a `docker` (or `podman`)
 * in front of the client's own mends them when it is asked to save. The engine needs these files too.
 */
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { asRoot, run } from '../support/real/processes.ts';
import type { StoreEngine, StoreKind } from './store-engines.ts';

export interface Damage {
  /** A PATH that finds the client that mends first. */
  readonly path: string;
  /** How often the engine was asked to save. */
  saves(): number;
  /** Puts everything back as it was, if nobody has done so. */
  mend(): Promise<void>;
}

const quoted = (text: string): string => `'${text.replaceAll("'", `'\\''`)}'`;

/**
 * Has a file of the store changed, by a shell command in which `$1` is the file, when the engine has told of the image and
 * been asked where its files are: not before, for it too looks at them. No change: a client that only counts.
 */
export const damage = async (
  kind: StoreKind,
  engine: StoreEngine,
  spoiled: { readonly path: string; readonly change: string } = { path: '/', change: '' },
): Promise<Damage> => {
  const folder = mkdtempSync(join(tmpdir(), 'chunked-push-damage-'));
  const calls = join(folder, 'saves');
  const asScript = (script: string) => asRoot(['sh', '-ec', script, 'sh', spoiled.path]);
  const spoil = asScript(spoiled.change && `[ -e "$1.kept" ] || { cp -a "$1" "$1.kept"; ${spoiled.change}; }`);
  const mend = asScript('! [ -e "$1.kept" ] || mv -fT "$1.kept" "$1"');
  const line = (command: readonly string[]) => command.map(quoted).join(' ');
  mkdirSync(join(folder, 'bin'));
  const client = join(folder, 'bin', kind.tool);
  const script = [
    '#!/bin/sh',
    `[ "$1" != save ] || { echo save >>${quoted(calls)}; ${line(mend)}; }`,
    `[ "$1" = info ] || exec ${quoted(engine.command)} "$@"`,
    `${quoted(engine.command)} "$@" && ${line(spoil)}`,
    '',
  ];
  writeFileSync(client, script.join('\n'));
  chmodSync(client, 0o755);
  return {
    path: [join(folder, 'bin'), engine.env.PATH].join(delimiter),
    saves: () => (existsSync(calls) ? readFileSync(calls, 'utf8').trim().split('\n').length : 0),
    mend: async () => {
      await run(mend[0]!, mend.slice(1));
      rmSync(folder, { recursive: true });
    },
  };
};

/** Another last byte, the same length. */
export const OTHER_LAST_BYTE = `printf '\\001' | dd of="$1" bs=1 seek="$(($(stat -c %s "$1") - 1))" conv=notrunc status=none`;
