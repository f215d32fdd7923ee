/** Live bars on a terminal: one for each blob on its way, gone from the screen's end when it has arrived. */
import cliProgress, { type MultiBar, type SingleBar } from 'cli-progress';
import type { PushEvent } from '../push/events.ts';
import { formatBytes, formatSeconds } from '../report/format.ts';
import { type Line, LineTeller } from '../report/lines.ts';

const FORMAT = '{label} [{bar}] {sent} / {whole}  {rate}{note}';

export class Bars {
  readonly #multi: MultiBar;
  readonly #bars = new Map<string, { bar: SingleBar; began: number }>();
  readonly #teller: LineTeller;
  readonly #verbose: boolean;

  constructor(stream: NodeJS.WriteStream, options: { showHost: boolean; verbose: boolean }) {
    this.#teller = new LineTeller(options);
    this.#verbose = options.verbose;
    this.#multi = new cliProgress.MultiBar(
      // Lines (what ended, warnings) are written above the bars; without it they would be overwritten.
      {
        stream,
        format: FORMAT,
        hideCursor: true,
        clearOnComplete: false,
        forceRedraw: true,
        autopadding: true,
        barsize: 30,
      },
      cliProgress.Presets.legacy,
    );
  }

  tell(event: PushEvent): void {
    if (event.type === 'blob-start') this.#start(event);
    else if (event.type === 'blob-progress') this.#move(event);
    else if (event.type === 'retry')
      this.#note(event, `  ${event.reason}, again in ${formatSeconds(event.waitMs / 1000)}`);
    else this.#log(event);
  }

  #start({ host, label, size }: Extract<PushEvent, { type: 'blob-start' }>): void {
    const whole = size === undefined ? '…' : formatBytes(size);
    const bar = this.#multi.create(size ?? 1, 0, { label, sent: formatBytes(0), whole, rate: '', note: '' });
    this.#bars.set(`${host} ${label}`, { bar, began: performance.now() });
  }

  #move({ host, label, confirmed, size }: Extract<PushEvent, { type: 'blob-progress' }>): void {
    const found = this.#bars.get(`${host} ${label}`);
    if (!found) return;
    const { bar, began } = found;
    const seconds = (performance.now() - began) / 1000;
    const rate = seconds > 0.1 ? `${formatBytes(confirmed / seconds)}/s` : '';
    // A blob that is still being made has no end to show: its bar fills up when the end is known.
    if (size !== undefined) bar.setTotal(size);
    const whole = size === undefined ? '…' : formatBytes(size);
    bar.update(size === undefined ? 0 : confirmed, { sent: formatBytes(confirmed), whole, rate, note: '' });
  }

  #note({ host, label }: { host: string; label: string }, note: string): void {
    this.#bars.get(`${host} ${label}`)?.bar.update({ note });
  }

  #log(event: PushEvent): void {
    if (event.type === 'made') return;
    if (event.type === 'blob-end') this.#end(event);
    for (const line of this.#teller.tell(event)) this.#write(line);
  }

  #end({ host, label }: { host: string; label: string }): void {
    const key = `${host} ${label}`;
    const found = this.#bars.get(key);
    if (found) this.#multi.remove(found.bar);
    this.#bars.delete(key);
  }

  #write({ level, text }: Line): void {
    if (level === 'debug' && !this.#verbose) return;
    this.#multi.log(`${level === 'info' || level === 'debug' ? '' : `${level}: `}${text}\n`);
  }

  close(): void {
    this.#multi.stop();
  }
}
