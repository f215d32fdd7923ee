/** What a registry, or somebody in its place, may say that a client must not follow blindly. */
import { answer, withHeaders } from '../answer.ts';
import type { Quirk } from '../quirk.ts';
import type { Step } from '../steps.ts';

/** Every answer carries a warning. distribution-spec v1.1, section "Warnings". */
export const warns = (text: string): Quirk => ({
  name: 'every answer carries Warning: 299',
  after: (given) => withHeaders(given, { Warning: `299 - "${text}"` }),
});

/** Locations of sessions lead to another origin (`http://HOST:PORT`). */
export const locatesElsewhere = (origin: string): Quirk => ({
  name: 'Location leads to another origin',
  after: (given, exchange) => {
    const { Location } = given.headers;
    if (Location === undefined || !exchange.route.step.startsWith('upload-')) return given;
    return withHeaders(given, { Location: new URL(new URL(Location, exchange.origin).pathname, origin).href });
  },
});

/** Requests of a step are sent elsewhere with 307, their path kept. */
export const redirects = (step: Step, origin: string): Quirk => ({
  name: `${step} is sent elsewhere`,
  before: (exchange) =>
    exchange.route.step === step ? answer(307, { Location: `${origin}${exchange.path}?${exchange.query}` }) : undefined,
});
