/** Which requests a fault befalls. */
import type { IncomingHttpHeaders } from 'node:http';
import type { Step } from '../registry/steps.ts';
import type { Fault } from './faults.ts';

/** A request as rules see it. */
export interface SeenRequest {
  readonly step: Step;
  readonly repository: string;
  readonly method: string;
  readonly path: string;
  readonly headers: IncomingHttpHeaders;
  /** Bytes that Content-Length promises; 0 without one. */
  readonly length: number;
  /** Where a chunk begins and ends, by its Content-Range. */
  readonly range: { readonly start: number; readonly end: number } | undefined;
}

export interface FaultRule {
  readonly step: Step | readonly Step[];
  readonly fault: Fault;
  /** The first of the requests that match which is befallen, from 1; 1 unless told. */
  readonly nth?: number;
  /** How many in a row from there; 1 unless told. */
  readonly times?: number;
  /** Which requests of the step match; all unless told. */
  readonly where?: (request: SeenRequest) => boolean;
  /** A request that is befallen waits for this first. */
  readonly held?: (request: SeenRequest) => Promise<unknown>;
}

/** A rule at work: what it has done so far. */
export interface AddedRule {
  /** Requests that matched. */
  readonly matches: number;
  /** Requests that were befallen. */
  readonly hits: number;
  remove(): void;
}

interface Counted {
  readonly rule: FaultRule;
  matches: number;
  hits: number;
}

const concerns = (rule: FaultRule, request: SeenRequest): boolean => {
  const steps: readonly Step[] = typeof rule.step === 'string' ? [rule.step] : rule.step;
  return steps.includes(request.step) && (rule.where?.(request) ?? true);
};

/** The rules of a proxy, in the order of their adding. */
export class Rules {
  readonly #rules: Counted[] = [];

  /** Adds a rule and gives what tells how it fared. */
  add(rule: FaultRule): AddedRule {
    const counted: Counted = { rule, matches: 0, hits: 0 };
    this.#rules.push(counted);
    return {
      get matches() {
        return counted.matches;
      },
      get hits() {
        return counted.hits;
      },
      remove: () => {
        const at = this.#rules.indexOf(counted);
        if (at >= 0) this.#rules.splice(at, 1);
      },
    };
  }

  clear(): void {
    this.#rules.length = 0;
  }

  /** The first rule that is due for a request. Every rule that matches counts. */
  dueFor(request: SeenRequest): FaultRule | undefined {
    let rule: FaultRule | undefined;
    for (const counted of this.#rules) {
      if (!concerns(counted.rule, request)) continue;
      counted.matches += 1;
      const first = counted.rule.nth ?? 1;
      const due = counted.matches >= first && counted.matches < first + (counted.rule.times ?? 1);
      if (!due || rule !== undefined) continue;
      counted.hits += 1;
      rule = counted.rule;
    }
    return rule;
  }
}
