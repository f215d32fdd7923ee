/** Where an answer leads to, and whether we go there. */
import { RegistryError, type RegistryErrorInit } from './error.ts';
import type { Attempt } from './network-error.ts';
import type { RegistryResponse } from './response.ts';
import { safeUrl, sameOrigin, unsafeTarget } from './url-policy.ts';

/** A request as far as a redirect changes it. */
interface Redirectable extends Attempt {
  readonly headers?: Readonly<Record<string, string>> | undefined;
}

/** What an address that a registry named by mistake most often comes from. */
const UNSAFE_REMEDY =
  'if the registry runs behind a proxy, the proxy must tell it its outer address (headers Host and X-Forwarded-Proto)';

/** The error of an address that is not followed. */
export function unsafeRedirect(request: Attempt, kind: 'unsafe' | 'protocol', reason: string): RegistryError {
  const { method, url, step } = request;
  const remedy = kind === 'unsafe' ? UNSAFE_REMEDY : undefined;
  return new RegistryError({ kind, method, url, step, reason, remedy, temporary: false });
}

/**
 * The same request to another place. What was meant for the one origin does not go to another. Throws RegistryError for
 * an unsafe place.
 */
export function redirected<R extends Redirectable>(request: R, location: string): R {
  const target = URL.canParse(location, request.url.href) ? new URL(location, request.url) : undefined;
  if (target === undefined) throw unsafeRedirect(request, 'protocol', 'was redirected to what is no URL');
  const unsafe = unsafeTarget(request.url, target);
  if (unsafe !== undefined)
    throw unsafeRedirect({ ...request, url: target }, 'unsafe', `the redirect ${unsafe}: not followed`);
  if (sameOrigin(request.url, target)) return { ...request, url: target };
  const { authorization: _, ...headers } = request.headers ?? {};
  return { ...request, url: target, headers };
}

/**
 * Where an answer redirects to; undefined when it does not. 307 and 308 keep method and body (RFC 9110, 15.4), as
 * docker and skopeo follow them. Throws RegistryError for 301, 302 and 303 to a request with another method than GET
 * and HEAD: clients turn that into a GET, which would push nothing.
 */
export function redirectOf(response: RegistryResponse, request: Attempt): string | undefined {
  const { status, method, headers } = response;
  if (headers.location === undefined) return undefined;
  if (status === 307 || status === 308) return headers.location;
  if (status !== 301 && status !== 302 && status !== 303) return undefined;
  if (method === 'GET' || method === 'HEAD') return headers.location;
  const target = URL.canParse(headers.location, request.url.href) ? new URL(headers.location, request.url) : undefined;
  const reason = `was redirected with status ${status} to ${target === undefined ? 'what is no URL' : safeUrl(target)}`;
  const { url, step } = request;
  const remedy = `push to ${target?.host ?? 'the host it redirects to'} instead${
    target?.protocol === 'https:' && url.protocol === 'http:' ? ' (with HTTPS, so without insecure)' : ''
  }, or have the server redirect with 307 or 308, which keep the method`;
  return fail({ kind: 'protocol', method, url, step, status, reason, remedy, temporary: false });
}

function fail(init: RegistryErrorInit): never {
  throw new RegistryError(init);
}
