/**
 * The real parts that the end-to-end tests need, where they are, and what is said when one is missing.
 * `npm run setup` (scripts/setup.ts) installs them from Debian's or Ubuntu's packages.
 */
import { accessSync, constants, existsSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/**
 * `docker` is the system's own engine (Debian 12: 20.10); `docker-trixie` and `docker-sid` are those of newer Debian
 * releases unpacked beside the system, for the containerd image store.
 */
export type PartName =
  | 'docker'
  | 'docker-trixie'
  | 'docker-sid'
  | 'podman'
  | 'docker-registry'
  | 'nginx'
  | 'skopeo'
  | 'strace'
  | 'sudo'
  | 'python3'
  | 'zstd'
  | 'xz'
  | 'bzip2'
  | 'jq';

/** The parts that `npm test` needs: all. */
export const TEST_PARTS: readonly PartName[] = [
  'docker',
  'docker-trixie',
  'docker-sid',
  'podman',
  'docker-registry',
  'nginx',
  'skopeo',
  'strace',
  'sudo',
  'python3',
  'zstd',
  'xz',
  'bzip2',
  'jq',
];

/** Leaves parts out of a run, comma-separated: what needs them is reported as skipped instead of failing. */
export const WITHOUT_VARIABLE = 'CHUNKED_PUSH_TEST_WITHOUT';

/** Packages are unpacked below node_modules, so that they go with the clone. */
export const unpackedRoot = fileURLToPath(new URL('../../../node_modules/.cache/chunked-push/', import.meta.url));

const SYSTEM_FOLDERS = ['/usr/bin', '/usr/sbin', '/usr/local/bin', '/usr/local/sbin'];

const COMMANDS: Readonly<Record<PartName, readonly string[]>> = {
  docker: ['docker', 'dockerd'],
  'docker-trixie': ['docker', 'dockerd', 'containerd', 'runc'],
  'docker-sid': ['docker', 'dockerd', 'containerd', 'runc'],
  podman: ['podman'],
  'docker-registry': ['docker-registry'],
  nginx: ['nginx'],
  skopeo: ['skopeo'],
  strace: ['strace'],
  sudo: ['sudo'],
  python3: ['python3'],
  zstd: ['zstd'],
  xz: ['xz'],
  bzip2: ['bzip2'],
  // The examples' own steps use it, as GitHub's runners have it.
  jq: ['jq'],
};

const executable = (path: string): boolean => {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
};

/**
 * The folders of a part's programs, first ones first. The newer Docker releases are unpacked on Debian; elsewhere (GitHub's
 * Ubuntu runner) the system's engine is new enough to have the containerd image store and stands for them.
 */
export const foldersOf = (part: PartName): readonly string[] => {
  if (part !== 'docker-trixie' && part !== 'docker-sid') return SYSTEM_FOLDERS;
  if (!existsSync('/etc/debian_version') || isUbuntu()) return SYSTEM_FOLDERS;
  const unpacked = join(unpackedRoot, part, 'usr');
  return [join(unpacked, 'bin'), join(unpacked, 'sbin')];
};

/** Whether this is Ubuntu, as on GitHub's hosted runners. */
export const isUbuntu = (): boolean =>
  existsSync('/etc/lsb-release') && existsSync('/usr/share/keyrings/ubuntu-archive-keyring.gpg');

/** The programs of a part that this machine lacks; empty when the part is there. */
export const lackingCommands = (part: PartName): readonly string[] => {
  const folders = foldersOf(part);
  return COMMANDS[part].filter((command) => !folders.some((folder) => executable(join(folder, command))));
};

/** The full path of one of a part's programs. Throws an Error that says how to get it. */
export const commandOf = (part: PartName, command: string): string => {
  const found = foldersOf(part)
    .map((folder) => join(folder, command))
    .find(executable);
  if (found === undefined) {
    throw new Error(
      `${part} is missing (${command} is not in ${foldersOf(part).join(', ')}): "npm run setup" installs it as root or by sudo; ` +
        `${WITHOUT_VARIABLE}=${part} leaves out the tests that need it`,
    );
  }
  return found;
};

/** A PATH that finds the part's programs before any other. */
export const pathWith = (part: PartName): string => [...foldersOf(part), process.env.PATH ?? ''].join(delimiter);

/** The parts that this run was asked to leave out. Throws an Error at a name that is none. */
export const leftOut = (): ReadonlySet<PartName> => {
  const names = (process.env[WITHOUT_VARIABLE] ?? '')
    .split(',')
    .map((name) => name.trim())
    .filter((name) => name !== '');
  const unknown = names.filter((name) => !(name in COMMANDS));
  if (unknown.length > 0) {
    throw new Error(
      `${WITHOUT_VARIABLE} names ${unknown.join(', ')}: expected some of ${Object.keys(COMMANDS).join(', ')}`,
    );
  }
  return new Set(names as PartName[]);
};
