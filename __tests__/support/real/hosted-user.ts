/**
 * The user of a GitHub-hosted runner: no root, but a member of the group that may use the engine's socket, and `sudo` without a
 * password by an entry in sudoers.d. `runAction({ user, ... })` and `runCommand(args, { user, ... })` run as that user.
 *
 * Root makes one without touching the machine: commands run in a mount namespace of their own with a copy of /etc that knows
 * the user, and with the checkout, the action and the engine's socket bound to a folder that the user may enter (other
 * users may not read a checkout below /root). Tests that an ordinary user runs, as on GitHub's runners, are that user already.
 */
import { appendFileSync, chmodSync, writeFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { type OtherUser, userOf } from './other-user.ts';
import { commandOf } from './parts.ts';
import { isRoot, privateFolder, removeFolder, run } from './processes.ts';

export interface HostedUser extends OtherUser {
  readonly uid: number;
  readonly gid: number;
  /** What the user's processes have: PATH, and DOCKER_HOST when an engine was given. */
  readonly env: Readonly<Record<string, string>>;
}

export interface HostedUserOptions {
  /** What `sudo -n` does for the user; `passwordless`, as on GitHub's runners, unless told. */
  readonly sudo?: 'passwordless' | 'refused';
  /** An engine of docker.ts, whose socket the user may use. */
  readonly docker?: { readonly host: string; readonly env: { readonly PATH: string } };
}

/** The group that engines started by root open their socket to, and the user in it: Debian and Ubuntu assign no such number. */
export const HOSTED_ID = 61_001;
const NAME = 'chunked-push-hosted';

/** Makes the user. Throws an Error when sudo is not installed. */
export const hostedUser = async (options: HostedUserOptions = {}): Promise<HostedUser> => {
  commandOf('sudo', 'sudo');
  const folder = privateFolder('hosted');
  chmodSync(folder, 0o755);
  return isRoot() ? otherUser(folder, options) : thisUser(folder, options);
};

/** The user of this process, who is an ordinary one with sudo: only a sudo that refuses has to be made. */
const thisUser = (folder: string, { sudo, docker }: HostedUserOptions): HostedUser => {
  let path = docker?.env.PATH ?? process.env.PATH ?? '';
  if (sudo === 'refused') {
    writeFileSync(join(folder, 'sudo'), '#!/bin/sh\necho "sudo: a password is required" >&2\nexit 1\n', {
      mode: 0o755,
    });
    path = `${folder}${delimiter}${path}`;
  }
  return {
    uid: process.getuid!(),
    gid: process.getgid!(),
    env: { PATH: path, ...(docker ? { DOCKER_HOST: docker.host } : {}) },
    path: (path) => path,
    command: (line) => line,
    remove: () => removeFolder(folder),
  };
};

const otherUser = async (folder: string, { sudo, docker }: HostedUserOptions): Promise<HostedUser> => {
  await copyOfEtc(folder, sudo ?? 'passwordless');
  const binds = [join(folder, 'etc'), '/etc'];
  const socket = join(folder, 'docker.sock');
  if (docker) {
    writeFileSync(socket, '');
    binds.push(docker.host.replace('unix://', ''), socket);
  }
  const user = userOf(HOSTED_ID, folder, binds);
  const env: Record<string, string> = {
    PATH: (docker?.env.PATH ?? process.env.PATH ?? '').split(delimiter).map(user.path).join(delimiter),
  };
  if (docker) env.DOCKER_HOST = `unix://${socket}`;
  return { ...user, uid: HOSTED_ID, gid: HOSTED_ID, env };
};

const copyOfEtc = async (folder: string, sudo: 'passwordless' | 'refused'): Promise<void> => {
  const etc = join(folder, 'etc');
  await run('cp', ['-a', '/etc', etc]);
  const add = (file: string, line: string) => appendFileSync(join(etc, file), `${line}\n`);
  add('passwd', `${NAME}:x:${HOSTED_ID}:${HOSTED_ID}::/nonexistent:/bin/sh`);
  add('group', `${NAME}:x:${HOSTED_ID}:`);
  // sudo asks for the account's validity even where it asks for no password.
  add('shadow', `${NAME}:*:19000:0:99999:7:::`);
  if (sudo === 'passwordless')
    writeFileSync(join(etc, 'sudoers.d', NAME), `${NAME} ALL=(ALL) NOPASSWD: ALL\n`, { mode: 0o440 });
};
