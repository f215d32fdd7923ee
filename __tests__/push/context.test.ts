import { describe, expect, it } from 'vitest';
import { OnDemand } from '../../src/push/context.ts';

/** Something that counts how often it is made and closed. */
const counted = () => {
  const counts = { made: 0, closed: 0 };
  const demanded = new OnDemand(async () => {
    counts.made++;
    return { close: async () => void counts.closed++ };
  });
  return { counts, demanded };
};

describe('something made on demand', () => {
  it('is made once, for all who ask, and closed', async () => {
    const { counts, demanded } = counted();
    const [one, other] = await Promise.all([demanded.get(), demanded.get()]);
    expect(one).toBe(other);
    await demanded.close();
    expect(counts).toEqual({ made: 1, closed: 1 });
  });

  it('is neither made nor closed when nobody asks, nor made afterwards', async () => {
    const { counts, demanded } = counted();
    await demanded.close();
    await expect(demanded.get()).rejects.toThrow('the push is over');
    expect(counts).toEqual({ made: 0, closed: 0 });
  });

  it('is closed by those who do not wait for it, too', async () => {
    const { counts, demanded } = counted();
    void demanded.get();
    await demanded.close();
    expect(counts).toEqual({ made: 1, closed: 1 });
  });
});
