/** What every handler is given. */
import type { Answer } from './answer.ts';
import type { Exchange } from './exchange.ts';
import type { Habits, Quirk, Site } from './quirk.ts';

export interface Desk extends Site {
  readonly habits: Habits;
  readonly quirks: readonly Quirk[];
}

export type Handler = (exchange: Exchange, desk: Desk) => Promise<Answer> | Answer;

/** The first answer that a hook of the quirks gives, in their order. */
export async function firstAnswer(
  quirks: readonly Quirk[],
  ask: (quirk: Quirk) => Answer | undefined | Promise<Answer | undefined>,
): Promise<Answer | undefined> {
  for (const quirk of quirks) {
    const given = await ask(quirk);
    if (given !== undefined) return given;
  }
  return undefined;
}
