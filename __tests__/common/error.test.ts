import { describe, expect, it } from 'vitest';
import { explainLine, PushError } from '../../src/common/error.ts';

describe('explainLine', () => {
  it('says step, message and remedy', () => {
    expect(explainLine(new PushError('Export', 'it is cut off', { remedy: 'write it again' }))).toBe(
      'Export: it is cut off: write it again',
    );
  });

  it('says the step once where the message begins with it', () => {
    const error = Object.assign(new Error('opening an upload: POST https://r/: 403'), { step: 'opening an upload' });
    expect(explainLine(error)).toBe('opening an upload: POST https://r/: 403');
  });

  it('makes a line of anything', () => {
    expect(explainLine(new Error('no'))).toBe('Push: no');
    expect(explainLine('no', 'Resolve')).toBe('Resolve: no');
  });
});
