import { setImmediate as turn } from 'node:timers/promises';
import { expect, it, onTestFinished, vi } from 'vitest';
import { BodyScheduler } from '../../../src/registry/host/throttle.ts';
import { MIB } from '../upload/client.ts';

/** Takes turns by name, and notes in which order they began. */
function takers(turns: BodyScheduler) {
  const begun: string[] = [];
  const ends = new Map<string, () => void>();
  const take = (name: string, bytes: number, left = bytes) =>
    void turns.take(bytes, left).then((end) => {
      begun.push(name);
      ends.set(name, end);
    });
  const settled = async () => {
    // One turn of the event loop for those who go soon, one for what follows from it.
    for (let n = 0; n < 3; n++) await turn();
    return begun.join(' ');
  };
  return { take, settled, end: (name: string) => ends.get(name)?.() };
}

it('two bodies go at once, the largest rests first; the next one when one was answered', async () => {
  const { take, settled, end } = takers(new BodyScheduler());
  take('small', 2 * MIB);
  take('large', 50 * MIB, 400 * MIB);
  take('middle', 50 * MIB);
  expect(await settled()).toBe('large middle');
  end('middle');
  expect(await settled()).toBe('large middle small');
});

it('a blob with another chunk at hand keeps its place', async () => {
  const { take, settled, end } = takers(new BodyScheduler());
  take('large 1', 50 * MIB, 400 * MIB);
  take('middle', 50 * MIB, 60 * MIB);
  take('other', 50 * MIB, 55 * MIB);
  expect(await settled()).toBe('large 1 middle');
  end('large 1');
  take('large 2', 50 * MIB, 350 * MIB);
  expect(await settled()).toBe('large 1 middle large 2');
});

it('a body that ends twice frees one place', async () => {
  const { take, settled, end } = takers(new BodyScheduler());
  for (const name of ['a', 'b', 'c', 'd']) take(name, 50 * MIB);
  expect(await settled()).toBe('a b');
  end('a');
  end('a');
  expect(await settled()).toBe('a b c');
});

it('small bodies wait for nobody', async () => {
  const { take, settled } = takers(new BodyScheduler());
  for (const name of ['a', 'b', 'c']) take(name, 50 * MIB);
  take('config', 3000);
  expect(await settled()).toBe('config a b');
});

it('a link that takes its time gets all bodies at once, from then on', async () => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
  onTestFinished(() => void vi.useRealTimers());
  const { take, settled, end } = takers(new BodyScheduler());
  for (const name of ['a', 'b', 'c', 'd']) take(name, MIB);
  expect(await settled()).toBe('a b');
  vi.advanceTimersByTime(100);
  expect(await settled()).toBe('a b');
  vi.advanceTimersByTime(50);
  expect(await settled()).toBe('a b c d');
  end('a');
  take('e', 50 * MIB);
  expect(await settled()).toBe('a b c d e');
});
