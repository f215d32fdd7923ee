/** Brings the real parts onto the machine, from the distribution's packages alone: only what is missing, no service started. */
import {
  isUbuntu,
  lackingCommands,
  leftOut,
  type PartName,
  WITHOUT_VARIABLE,
} from '../../__tests__/support/real/parts.ts';
import { aptInstall, unpackFromSuite } from './apt.ts';

const PACKAGES: Readonly<Partial<Record<PartName, string>>> = {
  docker: 'docker.io',
  podman: 'podman',
  'docker-registry': 'docker-registry',
  nginx: 'nginx-light',
  skopeo: 'skopeo',
  strace: 'strace',
  sudo: 'sudo',
  python3: 'python3',
  zstd: 'zstd',
  xz: 'xz-utils',
  bzip2: 'bzip2',
  jq: 'jq',
};

/** What makes an engine of its own out of a newer release: since Debian 13 the client is a package apart. */
const ENGINE_PACKAGES = ['docker.io', 'docker-cli', 'containerd', 'runc'];

const suiteOf = (part: PartName): string | undefined => /^docker-(trixie|sid)$/.exec(part)?.[1];

/**
 * Installs those of `parts` that are missing and not left out by CHUNKED_PUSH_TEST_WITHOUT; says loudly what could not be
 * had and why. Gives the parts that are missing afterwards.
 */
export const setup = async (parts: readonly PartName[]): Promise<readonly PartName[]> => {
  const without = leftOut();
  for (const part of without)
    console.log(`LEFT OUT: ${part}, as ${WITHOUT_VARIABLE} asks. What needs it is not tested.`);
  const asked = parts.filter((part) => !without.has(part));
  const isMissing = (part: PartName) => lackingCommands(part).length > 0;
  await installPackages(asked.filter(isMissing));
  await Promise.all(asked.filter(isMissing).map(unpackEngine));
  const missing = asked.filter(isMissing);
  for (const part of missing) {
    console.error(
      `MISSING: ${part} (${lackingCommands(part).join(', ')}). Its tests will fail; ${WITHOUT_VARIABLE}=${part} leaves them out.`,
    );
  }
  if (missing.length === 0) console.log(`Real parts at hand: ${asked.join(', ')}`);
  return missing;
};

const installPackages = async (parts: readonly PartName[]): Promise<void> => {
  const packages = parts.map((part) => PACKAGES[part]).filter((name) => name !== undefined);
  if (packages.length === 0) return;
  console.log(`Installing ${packages.join(', ')} (apt-get, no services started) ...`);
  await aptInstall(packages).catch(complain);
};

const unpackEngine = async (part: PartName): Promise<void> => {
  const suite = suiteOf(part);
  if (suite === undefined || isUbuntu()) return;
  console.log(`Unpacking Docker of Debian ${suite} beside the system (about 70 MB) ...`);
  await unpackFromSuite(suite, ENGINE_PACKAGES, part).catch(complain);
};

const complain = (error: unknown): void => console.error(error instanceof Error ? error.message : error);
