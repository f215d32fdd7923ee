import { expect, it } from 'vitest';
import { inOrder } from '../../scripts/bench/measure.ts';

it.each([2, 3, 5, 8])(
  '%i contestants: each is first as often as the others, and comes before and after its neighbours',
  (count) => {
    const contestants = Array.from({ length: count }, (_, index) => index);
    const rounds = Array.from({ length: 2 * count }, (_, round) => inOrder(contestants, round));
    for (const round of rounds) expect([...round].sort((a, b) => a - b)).toEqual(contestants);
    for (const contestant of contestants) {
      expect(rounds.filter(([first]) => first === contestant)).toHaveLength(2);
      const neighbours = [contestant + 1, contestant - 1 + count].map((one) => one % count);
      for (const neighbour of neighbours) {
        const after = rounds.filter((round) => round[round.indexOf(contestant) + 1] === neighbour);
        expect(after.length).toBeGreaterThanOrEqual(count - 1);
      }
    }
  },
);
