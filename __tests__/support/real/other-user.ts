/**
 * Commands of a user who is not root. Root runs them in a mount namespace of their own, in which the checkout and the action are
 * bound to a folder that the user may enter: other users may not read a checkout below /root. For an ordinary user nothing changes.
 */
import { chmodSync, mkdirSync } from 'node:fs';
import { join, sep } from 'node:path';
import { fileURLToPath } from 'node:url';
import { ACTION_VARIABLE } from '../runner.ts';
import { isRoot, privateFolder, removeFolder } from './processes.ts';

export interface OtherUser {
  /** Where the user reaches a file of the checkout or the action; other paths are the same for all users. */
  path(path: string): string;
  /** The command line that runs `line` as the user; paths of the checkout and the action are translated. */
  command(line: readonly string[]): readonly string[];
  /** Removes all that was made for the user. */
  remove(): void;
}

const checkout = fileURLToPath(new URL('../../../', import.meta.url)).replace(/\/$/, '');

/** $1: the user's number; then pairs of what is bound and where to, up to `--`; then the command. */
const ENTER = `
id=$1; shift
while [ "$1" != -- ]; do mount --bind "$1" "$2"; shift 2; done
shift
exec setpriv --reuid="$id" --regid="$id" --clear-groups -- "$@"`;

/** By root: the user of the number `id`. What is made lies in `folder`; `binds` are pairs of a path and where it is bound to. */
export function userOf(id: number, folder: string, binds: readonly string[] = []): OtherUser {
  const bound = new Map([[checkout, join(folder, 'checkout')]]);
  const action = process.env[ACTION_VARIABLE];
  if (action !== undefined) bound.set(action, join(folder, 'action'));
  for (const target of bound.values()) mkdirSync(target);
  const path = (path: string): string => {
    const [from, to] = [...bound].find(([from]) => path === from || path.startsWith(from + sep)) ?? ['', ''];
    return to + path.slice(from.length);
  };
  const enter = ['unshare', '--mount', 'bash', '-ec', ENTER, 'bash', String(id), ...binds, ...[...bound].flat(), '--'];
  return {
    path,
    command: (line) => [...enter, ...line.map(path)],
    remove: () => removeFolder(folder),
  };
}

/** A number that no account has. */
const UNKNOWN_ID = 54_321;

/** A user without an account and without a home; an ordinary user who runs the tests is that user already. */
export function unknownUser(): OtherUser {
  if (!isRoot()) return { path: (path) => path, command: (line) => line, remove: () => {} };
  const folder = privateFolder('unknown');
  chmodSync(folder, 0o755);
  return userOf(UNKNOWN_ID, folder);
}
