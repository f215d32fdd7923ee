/** Bearer scopes: `repository:team/app:pull,push`. https://distribution.github.io/distribution/spec/auth/scope/ */

/** Several lists of scopes as one without repetition: one entry a resource with all its actions, in a fixed order. */
export function mergeScopes(...lists: readonly (readonly string[])[]): string[] {
  const wanted = new Map<string, Set<string>>();
  for (const scope of lists.flat()) {
    const colon = scope.lastIndexOf(':');
    const resource = colon < 0 ? scope : scope.slice(0, colon);
    const actions = wanted.get(resource) ?? new Set<string>();
    for (const action of colon < 0 ? [] : scope.slice(colon + 1).split(',')) actions.add(action);
    wanted.set(resource, actions);
  }
  return [...wanted]
    .map(([resource, actions]) => [resource, [...actions].sort().join(',')].filter(Boolean).join(':'))
    .sort();
}

/** The scopes in a challenge's `scope` parameter: separated by spaces (RFC 6750, 3). */
export const scopesOf = (parameter: string | undefined): string[] =>
  (parameter ?? '').split(/\s+/).filter((scope) => scope !== '');
