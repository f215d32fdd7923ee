import { describe, expect, it } from 'vitest';
import { mergeScopes, scopesOf } from '../../../src/registry/auth/challenge.ts';

describe('mergeScopes', () => {
  it('joins the actions of a resource, in a fixed order', () => {
    expect(mergeScopes(['repository:b:push,pull'], ['repository:a:pull', 'repository:b:delete'])).toEqual([
      'repository:a:pull',
      'repository:b:delete,pull,push',
    ]);
  });

  it('keeps hosts with ports in resource names, and scopes that are no list', () => {
    expect(mergeScopes(['repository:host:5000/a:pull', 'aws', 'registry:catalog:*', 'aws'])).toEqual([
      'aws',
      'registry:catalog:*',
      'repository:host:5000/a:pull',
    ]);
  });
});

describe('scopesOf', () => {
  it('splits at spaces', () => {
    expect(scopesOf(' repository:a:pull  repository:b:push ')).toEqual(['repository:a:pull', 'repository:b:push']);
    expect(scopesOf(undefined)).toEqual([]);
  });
});
