/** What a terminal shows while the command runs, frame by frame. */
import { Screen } from '../../__tests__/support/screen.ts';
import { runInTerminal } from '../../__tests__/support/terminal.ts';

export interface Frame {
  /** Milliseconds from the first one. */
  readonly at: number;
  readonly lines: readonly string[];
}

const COLUMNS = 106;
const ROWS = 14;

/** More frames than a few a second make the file large, and nobody sees them. Milliseconds. */
const EVERY_MS = 400;

/** Pushes `app.tar` of the folder `home`; the frames begin with the prompt and its command line. */
export async function recordTerminal(reference: string, home: string): Promise<Frame[]> {
  const screen = new Screen(COLUMNS, ROWS);
  const began = performance.now();
  const frames: Frame[] = [];
  const take = (at: number) => frames.push({ at, lines: screen.lines().slice(-ROWS) });
  screen.write(`$ chunked-push docker-archive:app.tar --to ${reference}\r\n`);
  take(0);
  await runInTerminal(['docker-archive:app.tar', '--to', reference, '--no-cache'], {
    env: { HOME: home, NO_COLOR: '1' },
    columns: COLUMNS,
    rows: ROWS,
    onOutput: (text) => {
      screen.write(text);
      const at = performance.now() - began;
      if (at - frames.at(-1)!.at >= EVERY_MS) take(at);
    },
  });
  take(performance.now() - began);
  return frames;
}
