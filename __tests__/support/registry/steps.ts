/** Which step of a push (or pull) a request is. distribution-spec v1.1 section "Endpoints", end-1 to end-13. */

/** One kind of request; `other` is a path that the specification does not know. */
export type Step =
  | 'ping'
  | 'token'
  | 'blob-head'
  | 'blob-get'
  | 'blob-delete'
  | 'upload-post'
  | 'upload-mount'
  | 'upload-get'
  | 'upload-patch'
  | 'upload-put'
  | 'upload-delete'
  | 'manifest-head'
  | 'manifest-get'
  | 'manifest-put'
  | 'manifest-delete'
  | 'tags'
  | 'referrers'
  | 'other';

/** A request as the routes see it: its step, the repository, and the digest, tag or session id at the path's end. */
export interface Route {
  readonly step: Step;
  readonly repository: string;
  readonly reference: string;
}

const REPOSITORY = /^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:\/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*$/;
const PATH = /^\/v2\/(.+?)\/(blobs\/uploads|blobs|manifests|tags|referrers)(?:\/([^/]*))?$/;

const STEPS: Readonly<Record<string, Step>> = {
  'HEAD blobs': 'blob-head',
  'GET blobs': 'blob-get',
  'DELETE blobs': 'blob-delete',
  'POST blobs/uploads': 'upload-post',
  'GET blobs/uploads': 'upload-get',
  'PATCH blobs/uploads': 'upload-patch',
  'PUT blobs/uploads': 'upload-put',
  'DELETE blobs/uploads': 'upload-delete',
  'HEAD manifests': 'manifest-head',
  'GET manifests': 'manifest-get',
  'PUT manifests': 'manifest-put',
  'DELETE manifests': 'manifest-delete',
  'GET tags': 'tags',
  'GET referrers': 'referrers',
};

/** Whether a text is a repository name. distribution-spec, section "Pulling manifests". */
export const isRepository = (text: string): boolean => REPOSITORY.test(text);

/** The route of a request by its method, path and query. Never throws. */
export function routeOf(method: string, path: string, query: URLSearchParams): Route {
  const nowhere = { repository: '', reference: '' };
  if (path === '/v2/' || path === '/v2') return { step: 'ping', ...nowhere };
  if (path === '/token') return { step: 'token', ...nowhere };
  const match = PATH.exec(path);
  const step = match === null ? undefined : STEPS[`${method} ${match[2]}`];
  if (match === null || step === undefined) return { step: 'other', ...nowhere };
  const mounts = step === 'upload-post' && query.has('mount');
  return { step: mounts ? 'upload-mount' : step, repository: match[1] ?? '', reference: match[3] ?? '' };
}
