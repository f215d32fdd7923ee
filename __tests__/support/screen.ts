/** As much of a terminal as progress bars need: what a person sees after all that was written. ECMA-48, sections 8.3.39 to 8.3.41. */

const SEQUENCE = /\x1b\[(\??)(\d*)([A-Za-z])/y;

export class Screen {
  readonly #columns: number;
  readonly #rows: number;
  #lines: string[] = [''];
  #row = 0;
  #column = 0;
  #wraps = true;
  #rest = '';

  constructor(columns: number, rows: number) {
    this.#columns = columns;
    this.#rows = rows;
  }

  /** Everything from the first line on, also what has scrolled away; without empty lines at the end. */
  lines(): readonly string[] {
    const lines = this.#lines.map((line) => line.trimEnd());
    while (lines.at(-1) === '') lines.pop();
    return lines;
  }

  write(text: string): void {
    const all = this.#rest + text;
    // A sequence that is cut by the end of a piece waits for the next one.
    const cut = /\x1b(\[[?\d]*)?$/.exec(all)?.index ?? all.length;
    this.#rest = all.slice(cut);
    for (let at = 0; at < cut; ) {
      SEQUENCE.lastIndex = at;
      const match = SEQUENCE.exec(all);
      if (match) this.#obey(match[1] === '?', match[2] ?? '', match[3] ?? '');
      else this.#put(all[at]!);
      at = match ? SEQUENCE.lastIndex : at + 1;
    }
  }

  #put(char: string): void {
    if (char === '\r') this.#column = 0;
    else if (char === '\n') this.#down();
    else if (this.#column < this.#columns) this.#print(char);
    else if (this.#wraps) {
      this.#column = 0;
      this.#down();
      this.#print(char);
    }
  }

  #print(char: string): void {
    const line = (this.#lines[this.#row] ?? '').padEnd(this.#column);
    this.#lines[this.#row] = line.slice(0, this.#column) + char + line.slice(this.#column + 1);
    this.#column += 1;
  }

  #down(): void {
    this.#row += 1;
    this.#lines[this.#row] ??= '';
  }

  #obey(isPrivate: boolean, digits: string, command: string): void {
    const count = Number(digits || 1);
    if (isPrivate) {
      if (digits === '7') this.#wraps = command === 'h';
      return;
    }
    // Nothing moves above the window's first row.
    const top = Math.max(0, this.#lines.length - this.#rows);
    if (command === 'A') this.#row = Math.max(top, this.#row - count);
    if (command === 'B') this.#row = Math.min(this.#lines.length - 1, this.#row + count);
    if (command === 'G') this.#column = count - 1;
    if (command === 'K') this.#clearLine(digits);
    if (command === 'J') {
      this.#clearLine('');
      this.#lines.length = this.#row + 1;
    }
  }

  #clearLine(digits: string): void {
    const line = this.#lines[this.#row] ?? '';
    if (digits === '2') this.#lines[this.#row] = '';
    else if (digits === '' || digits === '0') this.#lines[this.#row] = line.slice(0, this.#column);
    else this.#lines[this.#row] = ' '.repeat(this.#column) + line.slice(this.#column);
  }
}
