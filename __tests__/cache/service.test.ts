import { expect, it } from 'vitest';
import { isOutage, isTaken, problemIn, readable } from '../../src/cache/service.ts';

it('signatures, masks and debug lines never reach the log', () => {
  expect(readable('::add-mask::abc')).toBe('');
  expect(readable('::debug::Body: {"signed_upload_url":"https://x/?sig=abc"}')).toBe('');
  expect(readable('::warning::GET https://x.example/a/b?sig=abc&se=1 failed%0Aat once')).toBe(
    'GET https://x.example/a/b failed at once',
  );
  expect(readable('Cache hit for: key')).toBe('Cache hit for: key');
});

it('the last problem is the answer; what is not one, is none', () => {
  expect(problemIn(['::debug::x', 'Cache hit for: key', '::warning::first', '::error::second'])).toBe('second');
  expect(problemIn(['::debug::Cache not found', 'Sent 5 of 5 (100.0%)'])).toBeUndefined();
});

it('a refusal is told in the service’s words, not as another job’s doing', () => {
  const lines = [
    '::debug::Failed to reserve cache: Error: Failed to CreateCacheEntry: Received non-retryable error: Failed request: (409) Conflict: exists',
    'Failed to save: Unable to reserve cache with key k, another job may be creating this cache.',
  ];
  expect(isTaken(problemIn(lines)!)).toBe(true);
  expect(isTaken('Failed to reserve cache: Error: Failed to CreateCacheEntry: Failed request: (503)')).toBe(false);
  expect(isOutage('Failed to restore: Failed to GetCacheEntryDownloadURL: Rate limited')).toBe(true);
  expect(isOutage('Failed to restore: "/usr/bin/tar" failed with error')).toBe(false);
});
