/**
 * The inputs' credentials for another program (`docker push`, `podman push`), in a file that lives no longer than the
 * call.
 */

import { mkdtemp, readdir, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { readRegular } from '../../common/open-regular.ts';
import { dockerConfigFile, MAX_CONFIG_FILE_BYTES } from '../../common/platform.ts';
import { canonicalHost, DOCKER_HUB, DOCKER_HUB_KEY } from '../../oci/reference.ts';
import { basicString, TOKEN_USERNAME } from './credentials.ts';

export interface TemporaryLogin {
  /** `host[:port]` of an image reference. */
  readonly registry: string;
  readonly username: string;
  readonly password: string;
  readonly env: NodeJS.ProcessEnv;
}

/**
 * Calls `use` with variables (DOCKER_CONFIG, REGISTRY_AUTH_FILE) that name a folder of mode 0700 with a config.json of
 * mode 0600: the user's own settings, with these credentials over the user's own for that registry. The folder is
 * removed before this resolves or rejects, as `use` does.
 */
export async function withTemporaryLogin<T>(
  login: TemporaryLogin,
  use: (env: NodeJS.ProcessEnv) => Promise<T>,
): Promise<T> {
  const folder = await mkdtemp(join(login.env.RUNNER_TEMP || tmpdir(), 'chunked-push-login-'));
  try {
    const own = dockerConfigFile(login.env);
    const file = join(folder, 'config.json');
    await writeFile(file, JSON.stringify(layered(await settingsIn(own), login)), { mode: 0o600, flag: 'wx' });
    await linkOthers(dirname(own), folder);
    return await use({ DOCKER_CONFIG: folder, REGISTRY_AUTH_FILE: file });
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

type Settings = Record<string, unknown>;

/** The user's own settings; none when there are none to read. */
async function settingsIn(path: string): Promise<Settings> {
  try {
    const parsed: unknown = JSON.parse((await readRegular(path, MAX_CONFIG_FILE_BYTES)).toString('utf8'));
    return isRecord(parsed) ? parsed : {};
  } catch {
    return {};
  }
}

function layered(own: Settings, { registry, username, password }: TemporaryLogin): Settings {
  const host = canonicalHost(registry);
  // docker and podman write Docker Hub in different ways.
  const keys = host === DOCKER_HUB ? [DOCKER_HUB_KEY, DOCKER_HUB] : [host];
  const entry = username === TOKEN_USERNAME ? { identitytoken: password } : { auth: basicString(username, password) };
  const each = (value: unknown): Settings => Object.fromEntries(keys.map((key) => [key, value]));
  return {
    ...own,
    auths: { ...(isRecord(own.auths) ? own.auths : {}), ...each(entry) },
    // A helper or store would be asked in place of the entry; an empty name is none (docker/cli,
    // getConfiguredCredentialStore).
    ...(own.credsStore === undefined && own.credHelpers === undefined
      ? {}
      : { credHelpers: { ...(isRecord(own.credHelpers) ? own.credHelpers : {}), ...each('') } }),
  };
}

/** What else lies beside the user's config.json: contexts, certificates of the engine, plugins. */
async function linkOthers(from: string, to: string): Promise<void> {
  const names = await readdir(from).catch(() => []);
  await Promise.all(
    names.filter((name) => name !== 'config.json').map((name) => symlink(join(from, name), join(to, name))),
  );
}

const isRecord = (value: unknown): value is Settings =>
  typeof value === 'object' && value !== null && !Array.isArray(value);
