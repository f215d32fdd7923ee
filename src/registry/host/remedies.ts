/** What to do about answers that do not say it themselves. */

import { randomBytes } from 'node:crypto';
import { RegistryError } from '../http/error.ts';
import type { RegistryResponse } from '../http/response.ts';
import type { HostContext, Place } from './context.ts';

/**
 * About a failure at another port of the registry's own host: its Location or redirect has lost the port (nginx: `Host
 * $host`).
 */
export function lostPort(registry: URL, url: URL): string | undefined {
  if (url.hostname !== registry.hostname || url.port === registry.port) return undefined;
  return (
    `the registry at ${registry.host} names ${url.host} as the place to go on: the proxy in front of it must pass on the host ` +
    'with its port (nginx: proxy_set_header Host $http_host), or the registry needs its outer address (distribution: http.host)'
  );
}

/**
 * About a 405 to what begins or ends a push. distribution in read-only mode or as a pull-through cache adds the code
 * UNSUPPORTED.
 */
export function readOnly(host: string, method: string, url: URL): string | undefined {
  if (method !== 'POST' && !(method === 'PUT' && url.pathname.includes('/manifests/'))) return undefined;
  return `${host} takes no pushes: it is read-only for now, or a pull-through cache or mirror: push to the registry behind it`;
}

const notRegistry = (host: string): string =>
  `${host} does not answer as a container registry: check the host and port in the reference (ghcr.io, not github.com; ` +
  'registry.gitlab.com, not gitlab.com), and the path that a proxy in front of it passes on (/v2/)';

/**
 * About a 404 without a code to the opening of an upload: is it no registry, or does it know no such owner (Gitea,
 * Forgejo)?
 */
export async function unknownPlace(place: Place, signal: AbortSignal): Promise<string> {
  const { transport, host } = place.context;
  const isRegistry = await transport
    .send({ method: 'GET', url: new URL('/v2/', transport.origin), scopes: place.scopes, signal })
    .then(async (response) => {
      await response.discard();
      const { status, headers } = response;
      const isVersioned = headers['docker-distribution-api-version'] !== undefined;
      return isVersioned || ((status === 200 || status === 401) && !isPage(response));
    })
    .catch(() => false);
  if (!isRegistry) return notRegistry(host.host);
  const [owner] = place.name.split('/');
  return `${host.host} knows no ${place.name}: create the user, organisation or project ${owner} there first, or check the name`;
}

/** Whether an answer is a page for people. */
export const isPage = ({ headers }: RegistryResponse): boolean =>
  /^\s*(text\/html|application\/xhtml)/i.test(headers['content-type'] ?? '');

/** The error of an answer that no registry would send. */
export function noRegistry(response: RegistryResponse, place: Place, step: string, reason: string): RegistryError {
  const { method, url, status } = response;
  const remedy = notRegistry(place.context.host.host);
  return new RegistryError({ kind: 'protocol', method, url, status, step, reason, remedy, temporary: false });
}

const trusted = new WeakMap<HostContext, Promise<boolean>>();

/** The host has sent a manifest that has the digest it names: it is a registry, and its HEAD is believed. */
export const noteRegistry = (context: HostContext): void => void trusted.set(context, Promise.resolve(true));

/**
 * Whether a HEAD that says 200 means anything: a page or a proxy may say it to everything, and a blob that "exists"
 * would not be sent. `head` asks for a digest that no blob can have; asked once a host.
 */
export function tellsAbsence(context: HostContext, head: (digest: string) => Promise<number>): Promise<boolean> {
  const known = trusted.get(context);
  if (known !== undefined) return known;
  const asked = head(`sha256:${randomBytes(32).toString('hex')}`).then((status) => status !== 200);
  trusted.set(context, asked);
  asked.catch(() => trusted.delete(context));
  return asked;
}
