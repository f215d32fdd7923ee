/** The engine's own push, where the chunked one failed and the user asked for it. As cog does: never after a cancel. */

import { mkdir, mkdtemp, readdir, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { explainLine } from '../common/error.ts';
import { readRegular } from '../common/open-regular.ts';
import { dockerConfigFile, MAX_CONFIG_FILE_BYTES } from '../common/platform.ts';
import { isFields } from '../oci/documents.ts';
import { canonicalHost, DOCKER_HUB, DOCKER_HUB_KEY, formatReference, type Reference } from '../oci/reference.ts';
import { basicString, TOKEN_USERNAME } from '../registry/auth/credentials.ts';
import type { FoundImage } from '../source/source.ts';
import type { PushContext } from './context.ts';
import type { TargetRepository } from './target-repository.ts';

/** Kinds of registry errors that the engine would run into just the same: wrong or missing credentials. */
const CREDENTIALS: ReadonlySet<unknown> = new Set(['auth', 'denied']);

const isCredentials = (error: unknown): boolean =>
  error instanceof Error && (CREDENTIALS.has((error as { kind?: unknown }).kind) || isCredentials(error.cause));

/** Whether the engine's own push may be tried for this failure. */
export function mayFallBack(context: PushContext, found: FoundImage, failure: unknown): boolean {
  return (
    context.request.fallback === 'engine' &&
    found.push !== undefined &&
    !context.signal.aborted &&
    !isCredentials(failure)
  );
}

/**
 * Pushes by the engine what failed for a reason that allows it, and says why. A tag that fails again keeps its first
 * failure.
 */
export async function pushByEngine(context: PushContext, found: FoundImage): Promise<void> {
  for (const target of context.registries.flatMap(({ repositories }) => repositories)) {
    const failed = target.unpushed.filter((reference) => {
      const error = target.errorOf(reference);
      return error !== undefined && mayFallBack(context, found, error);
    });
    const [first] = failed;
    if (!first) continue;
    const why = explainLine(target.errorOf(first));
    context.report({ type: 'warning', text: `The chunked push failed, ${found.engine} pushes: ${why}` });
    if (context.request.forceCompression) {
      const text = `force-compression: ${found.engine} pushes the layers in the compression that they have`;
      context.report({ type: 'warning', text });
    }
    for (const reference of failed) await pushTag(context, found, target, reference);
  }
}

async function pushTag(
  context: PushContext,
  found: FoundImage,
  to: TargetRepository,
  reference: Reference,
): Promise<void> {
  const { credentials, destinations, insecure, tlsVerify, env } = context.request;
  const options = {
    insecure: insecure || !tlsVerify,
    signal: context.signal,
    debug: (text: string) => context.report({ type: 'debug', text }),
  };
  const byEngine = (env?: NodeJS.ProcessEnv) => found.push?.(formatReference(reference), { ...options, env });
  // The inputs belong to the registry of the first tag. The engine finds all others where we do.
  const isOwner = reference.apiHost === destinations[0]?.apiHost;
  try {
    const digest =
      credentials === undefined || !isOwner
        ? await byEngine()
        : await withTemporaryLogin({ registry: reference.registry, ...credentials, env }, async (env) => byEngine(env));
    if (digest) to.confirm(reference, digest);
  } catch (error) {
    context.signal.throwIfAborted();
    context.report({ type: 'warning', text: `The fallback failed too: ${explainLine(error)}` });
  }
}

/**
 * The inputs' credentials for another program (`docker push`, `podman push`), in a file that lives no longer than the
 * call.
 */
export interface TemporaryLogin {
  /** `host[:port]` of an image reference. */
  readonly registry: string;
  readonly username: string;
  readonly password: string;
  readonly env: NodeJS.ProcessEnv;
}

/**
 * Calls `use` with variables that name files of mode 0600 in a folder of mode 0700. DOCKER_CONFIG: the user's own
 * settings, with these credentials over the user's own for that registry. REGISTRY_AUTH_FILE: these credentials alone,
 * since Podman would run a helper without a name, and prefers entries of a namespace. The folder is removed before this
 * resolves or rejects, as `use` does.
 */
export async function withTemporaryLogin<T>(
  login: TemporaryLogin,
  use: (env: NodeJS.ProcessEnv) => Promise<T>,
): Promise<T> {
  const folder = await mkdtemp(join(login.env.RUNNER_TEMP || tmpdir(), 'chunked-push-login-'));
  try {
    const own = dockerConfigFile(login.env);
    const docker = join(folder, 'docker');
    await mkdir(docker, { mode: 0o700 });
    await writePrivate(join(docker, 'config.json'), layered(await settingsIn(own), login));
    await linkOthers(dirname(own), docker);
    const podman = join(folder, 'auth.json');
    await writePrivate(podman, layered({}, login));
    return await use({ DOCKER_CONFIG: docker, REGISTRY_AUTH_FILE: podman });
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

const writePrivate = (path: string, settings: Settings): Promise<void> =>
  writeFile(path, JSON.stringify(settings), { mode: 0o600, flag: 'wx' });

type Settings = Record<string, unknown>;

/** The user's own settings; none when there are none to read. */
async function settingsIn(path: string): Promise<Settings> {
  try {
    const parsed: unknown = JSON.parse((await readRegular(path, MAX_CONFIG_FILE_BYTES)).toString('utf8'));
    return isFields(parsed) ? parsed : {};
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
    auths: { ...(isFields(own.auths) ? own.auths : {}), ...each(entry) },
    // A helper or store would be asked in place of the entry; an empty name is none (docker/cli,
    // getConfiguredCredentialStore).
    ...(own.credsStore === undefined && own.credHelpers === undefined
      ? {}
      : { credHelpers: { ...(isFields(own.credHelpers) ? own.credHelpers : {}), ...each('') } }),
  };
}

/** What else lies beside the user's config.json: contexts, certificates of the engine, plugins. */
async function linkOthers(from: string, to: string): Promise<void> {
  const names = await readdir(from).catch(() => []);
  await Promise.all(
    names.filter((name) => name !== 'config.json').map((name) => symlink(join(from, name), join(to, name))),
  );
}
