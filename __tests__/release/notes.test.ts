import { describe, expect, it } from 'vitest';
import { notesOf } from '../../scripts/release/notes.ts';

const CHANGELOG = `# Changelog

## [Unreleased]

- Not yet.

## [1.10.0] - 2026-11-02

### Added

- Ten. See [the docs](docs/a.md).

## [1.1.0] - 2026-10-02

- One.

## [1.0.0] - 2026-09-02

[1.10.0]: https://example.com/1.10.0
[1.0.0]: https://example.com/1.0.0
`;

describe('the notes of a release', () => {
  it('are the section of its version, and of no other that begins alike', () => {
    expect(notesOf(CHANGELOG, '1.10.0')).toBe('### Added\n\n- Ten. See [the docs](docs/a.md).\n');
    expect(notesOf(CHANGELOG, '1.1.0')).toBe('- One.\n');
  });

  it('are an error when there is no section, or nothing in it', () => {
    expect(() => notesOf(CHANGELOG, '1.2.0')).toThrow('no section "## [1.2.0]"');
    expect(() => notesOf(CHANGELOG, '1.0.0')).toThrow('says nothing');
  });
});
