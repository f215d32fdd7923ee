import { expect, it } from 'vitest';
import { RetryBudget } from '../../../src/registry/upload/retry-budget.ts';

it('so many retries in a row are allowed, and progress starts the count anew', () => {
  const budget = new RetryBudget(2);
  expect([budget.failed(), budget.failed()]).toEqual([1, 2]);
  budget.progress(10);
  expect([budget.failed(), budget.failed(), budget.failed()]).toEqual([1, 2, undefined]);
  expect(budget.retries).toBe(4);
});

it('without retries the first failure is the last', () => {
  expect(new RetryBudget(0).failed()).toBeUndefined();
});

it('closing requests have a count that progress does not start anew', () => {
  const budget = new RetryBudget(1);
  expect(budget.closingFailed()).toBe(true);
  budget.progress(1);
  expect(budget.closingFailed()).toBe(false);
});

it('the failures of a session that was lost count as one', () => {
  const budget = new RetryBudget(3);
  expect([budget.failed(), budget.failed(), budget.failed(), budget.sessionLost()]).toEqual([1, 2, 3, true]);
  expect([budget.failed(), budget.failed(), budget.sessionLost()]).toEqual([2, 3, true]);
  expect([budget.failed(), budget.failed()]).toEqual([3, undefined]);
});

it('sessions may be lost as long as each gets further, and else ten times', () => {
  const budget = new RetryBudget(3);
  for (let offset = 1; offset <= 50; offset += 1) {
    budget.progress(offset);
    expect(budget.sessionLost()).toBe(true);
  }
  const standing = Array.from({ length: 10 }, () => {
    budget.progress(7);
    return budget.sessionLost();
  });
  expect(standing).toEqual([...Array<boolean>(9).fill(true), false]);
});
