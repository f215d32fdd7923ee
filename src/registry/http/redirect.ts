/** Where an answer leads to, and whether we go there. */
import { RegistryError } from './error.ts';
import type { Attempt } from './network-error.ts';
import type { RegistryResponse } from './response.ts';
import { sameOrigin, unsafeTarget } from './url-policy.ts';

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

/** The same request to another place. What was meant for the one origin does not go to another. Throws RegistryError for an unsafe place. */
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

/** Where an answer redirects to; undefined when it does not, or when following would change the method of one with a body. */
export function redirectOf(response: RegistryResponse): string | undefined {
  const { status, method, headers } = response;
  const keepsMethod = status === 307 || status === 308;
  const plain = (method === 'GET' || method === 'HEAD') && (status === 301 || status === 302 || status === 303);
  return keepsMethod || plain ? headers.location : undefined;
}
