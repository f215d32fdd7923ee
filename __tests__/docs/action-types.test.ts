import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { metadata, read } from './language-service.ts';

/** https://github.com/typesafegithub/github-actions-typing#available-types */
interface Type {
  readonly type: string;
  readonly separator?: string;
  readonly 'allowed-values'?: readonly string[];
  readonly 'list-item'?: Type;
}

const types = parse(read('action-types.yml')) as Record<'inputs' | 'outputs', Readonly<Record<string, Type>>>;

describe('action-types.yml', () => {
  it.each(['inputs', 'outputs'] as const)('has a type for all %s of action.yml', (kind) => {
    expect(Object.keys(types[kind])).toEqual(Object.keys(metadata[kind]));
  });

  const check = (name: string, type: Type): void => {
    expect(['string', 'boolean', 'integer', 'float', 'list', 'enum'], name).toContain(type.type);
    expect('allowed-values' in type, name).toBe(type.type === 'enum');
    expect('separator' in type && 'list-item' in type, name).toBe(type.type === 'list');
    if (type['list-item']) check(name, type['list-item']);
  };

  it('has types that there are', () => {
    for (const [name, type] of Object.entries({ ...types.inputs, ...types.outputs })) check(name, type);
  });

  it('allows the defaults', () => {
    for (const [name, { default: value }] of Object.entries(metadata.inputs)) {
      const { type, 'allowed-values': allowed } = types.inputs[name]!;
      if (value === undefined) continue;
      if (type === 'boolean') expect(['true', 'false'], name).toContain(value);
      if (type === 'integer') expect(value, name).toMatch(/^\d+$/);
      if (allowed) expect(allowed, name).toContain(value);
    }
  });

  it('says boolean where the default is one', () => {
    for (const [name, { default: value }] of Object.entries(metadata.inputs))
      if (value === 'true' || value === 'false') expect(types.inputs[name]!.type, name).toBe('boolean');
  });
});
