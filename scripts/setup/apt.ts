/** apt-get as the setup needs it: installing without starting anything, and unpacking another release beside the system. */
import { mkdirSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { unpackedRoot } from '../../__tests__/support/real/parts.ts';
import { asRoot, run } from '../../__tests__/support/real/processes.ts';

const TRIES = 3;
const PAUSE = 5_000;
const LIMIT = 600_000;
const PATIENT = ['-o', 'Acquire::Retries=3', '-o', 'DPkg::Lock::Timeout=120'];

/** A policy-rc.d that says no (101) is how Debian is told to start no service of a package that it installs. */
const INSTALL = `set -e
export DEBIAN_FRONTEND=noninteractive
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
  printf '#!/bin/sh\\nexit 101\\n' >"$policy"
  chmod 755 "$policy"
  trap 'rm -f "$policy"' EXIT
fi
apt-get ${PATIENT.join(' ')} update
apt-get ${PATIENT.join(' ')} install -y --no-install-recommends "$@"`;

/** Installs packages of the system's own release as root or by `sudo -n`. Throws with apt's words after three tries. */
export const aptInstall = (packages: readonly string[]): Promise<void> =>
  persistently(async () => {
    const [program = 'sh', ...args] = asRoot(['sh', '-c', INSTALL, 'sh', ...packages]);
    await run(program, args, { timeout: LIMIT });
  });

/**
 * Downloads packages of another Debian release and unpacks them into `<unpacked root>/<name>`; the system's own package
 * lists and files stay as they are, and no root is needed. Throws with apt's words after three tries.
 */
export const unpackFromSuite = async (suite: string, packages: readonly string[], name: string): Promise<void> => {
  const folder = join(unpackedRoot, name);
  const work = `${folder}.${process.pid}`;
  try {
    await persistently(async () => {
      rmSync(work, { recursive: true, force: true });
      const apt = privateApt(work, suite);
      await run('apt-get', [...apt, 'update'], { timeout: LIMIT });
      const downloads = join(work, 'download');
      mkdirSync(downloads);
      await run('apt-get', [...apt, 'download', ...packages], { cwd: downloads, timeout: LIMIT });
      for (const file of readdirSync(downloads)) await run('dpkg', ['-x', join(downloads, file), join(work, 'files')]);
    });
    rmSync(folder, { recursive: true, force: true });
    renameSync(join(work, 'files'), folder);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
};

/** The options that make apt-get work on a source list, package lists and a cache of its own below `work`. */
const privateApt = (work: string, suite: string): readonly string[] => {
  for (const part of ['lists/partial', 'cache/archives/partial']) mkdirSync(join(work, part), { recursive: true });
  const list = join(work, 'sources.list');
  const keyring = '/usr/share/keyrings/debian-archive-keyring.gpg';
  writeFileSync(list, `deb [signed-by=${keyring}] http://deb.debian.org/debian ${suite} main\n`);
  const settings = {
    'Dir::Etc::sourcelist': list,
    'Dir::Etc::sourceparts': '/dev/null',
    'Dir::State::lists': join(work, 'lists'),
    'Dir::Cache': join(work, 'cache'),
    'Acquire::Languages': 'none',
    'APT::Sandbox::User': process.getuid?.() === 0 ? 'root' : '',
  };
  return [...PATIENT, ...Object.entries(settings).flatMap(([key, value]) => ['-o', `${key}=${value}`])];
};

const persistently = async (attempt: () => Promise<void>): Promise<void> => {
  for (let tries = 1; ; tries++) {
    try {
      return await attempt();
    } catch (error) {
      if (tries === TRIES) throw error;
      await delay(PAUSE);
    }
  }
};
