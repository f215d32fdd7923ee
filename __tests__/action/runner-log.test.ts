/** A push's events as the runner's log has them. */
import { describe, expect, it } from 'vitest';
import type { PushEvent } from '../../src/push/events.ts';
import { runPart } from './step.ts';

const HOST = 'registry.example.com';

const logOf = (events: readonly PushEvent[], { showHost = false, closings = 1 } = {}) =>
  runPart('log', { events, showHost, closings });

const phase = (name: Extract<PushEvent, { type: 'phase' }>['phase']): PushEvent => ({ type: 'phase', phase: name });
const text = (type: 'info' | 'notice' | 'warning' | 'debug', words: string): PushEvent => ({ type, text: words });

describe('groups', () => {
  it('are one a phase: each ends before the next begins, lines inside', () => {
    const { log } = logOf([
      phase('Resolve'),
      text('info', 'found'),
      phase('Upload'),
      text('info', 'sent'),
      phase('Manifest'),
    ]);
    expect(log.split('\n')).toEqual([
      '::group::Resolve',
      'found',
      '::endgroup::',
      '::group::Upload',
      'sent',
      '::endgroup::',
      '::group::Manifest',
      '::endgroup::',
      '',
    ]);
  });

  it('a phase that goes on stays one group, one that comes again is a new one', () => {
    const { groups, log } = logOf([
      phase('Upload'),
      phase('Upload'),
      phase('Manifest'),
      phase('Upload'),
      phase('Manifest'),
    ]);
    expect(groups).toEqual(['Upload', 'Manifest', 'Upload', 'Manifest']);
    expect(log.match(/::endgroup::/g)).toHaveLength(4);
  });

  it('closing ends the last one, once, and none where there was none', () => {
    expect(logOf([phase('Resolve')], { closings: 2 }).log.match(/::endgroup::/g)).toHaveLength(1);
    expect(logOf([text('info', 'a line')], { closings: 2 }).log).toBe('a line\n');
  });
});

describe('masks', () => {
  it('come where the secret is told, and nothing else is said of it', () => {
    const { log, masks, visible } = logOf([
      phase('Resolve'),
      { type: 'secret', value: 'hunter2' },
      text('info', 'the password is hunter2'),
    ]);
    expect(masks).toEqual(['hunter2']);
    expect(log.split('\n').slice(0, 3)).toEqual(['::group::Resolve', '::add-mask::hunter2', 'the password is hunter2']);
    expect(visible).toContain('the password is ***');
  });

  it('hold for secrets with characters that mean something in a log', () => {
    const values = ['100%0A', 'two\nlines', 'carriage\rreturn', '::endgroup::'];
    const { masks, log } = logOf(values.map((value): PushEvent => ({ type: 'secret', value })));
    expect(masks).toEqual(values);
    expect(log.split('\n')).toHaveLength(values.length + 1);
  });
});

describe('levels', () => {
  it('debug lines are the runner’s to show: nobody sees them unless the job is run with debug logging', () => {
    const { debugs, visible, log } = logOf([text('debug', 'one HEAD took 12 ms'), text('info', 'seen')]);
    expect(debugs).toEqual(['one HEAD took 12 ms']);
    expect(visible.trim()).toBe('seen');
    // With it they are the same commands: the runner is who decides.
    const asked = runPart(
      'log',
      { events: [text('debug', 'again')], showHost: false, closings: 0 },
      { env: { RUNNER_DEBUG: '1' } },
    );
    expect(asked.log).toBe('::debug::again\n');
    expect(log).not.toMatch(/^one HEAD/m);
  });

  it('notices and warnings are annotations, of several lines too', () => {
    const { notices, warnings, errors, log } = logOf([
      text('notice', 'lower-cased'),
      text('warning', 'first\nsecond\n::error::third'),
    ]);
    expect([notices, warnings, errors]).toEqual([['lower-cased'], ['first\nsecond\n::error::third'], []]);
    expect(log.split('\n')).toHaveLength(3);
  });
});

describe('lines of blobs', () => {
  const end: PushEvent = {
    type: 'blob-end',
    label: '0123456789ab',
    host: HOST,
    digest: `sha256:${'0'.repeat(64)}`,
    size: 5_000_000,
    fate: 'uploaded',
    seconds: 2,
    retries: 1,
    fromCache: false,
  };

  it('say the registry only where there are several', () => {
    expect(logOf([end]).log).toMatch(/^0123456789ab: uploaded, 5 MB in 2 s \(1 retry\)\n$/);
    expect(logOf([end], { showHost: true }).log).toMatch(/^0123456789ab at registry\.example\.com: uploaded/);
  });

  it('a retry says why and how long it waits, a limit what was found', () => {
    const { log } = logOf([
      { type: 'retry', label: '0123456789ab', host: HOST, reason: '503 Service Unavailable', attempt: 2, waitMs: 1500 },
      { type: 'limit', host: HOST, bytes: 49_807_360, announced: false },
    ]);
    expect(log.split('\n')).toEqual([
      '0123456789ab: try 2 failed: 503 Service Unavailable; again in 1.5 s',
      `${HOST} refuses larger requests: chunks of 49.8 MB (49807360 bytes) from now on`,
      '',
    ]);
  });

  it('thousands of progress events are a handful of lines', () => {
    const progress = Array.from(
      { length: 5000 },
      (_, sent): PushEvent => ({
        type: 'blob-progress',
        label: 'a',
        host: HOST,
        sent: sent + 1,
        confirmed: 0,
        size: 5000,
      }),
    );
    const { log } = logOf([{ type: 'blob-start', label: 'a', host: HOST, size: 5000 }, ...progress]);
    expect(log.split('\n').length).toBeLessThan(5);
    expect(log).toContain('a: uploading 5 kB\n');
  });
});
