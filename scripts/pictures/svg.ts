/** Text of a log or a terminal as SVG. */
import type { Frame } from './record.ts';

export type Theme = 'light' | 'dark';

/** GitHub's own colours. https://primer.style/product/primitives/color/ */
const COLOURS = {
  light: { back: '#ffffff', text: '#1f2328', border: '#d1d9e0' },
  dark: { back: '#0d1117', text: '#e6edf3', border: '#3d444d' },
} as const;

const FONT = 'ui-monospace,SFMono-Regular,Menlo,Consolas,DejaVu Sans Mono,monospace';
const SIZE = 13;
const LINE = 19;
/** A character of a monospaced font is 0.6 of its size wide. */
const CHARACTER = SIZE * 0.6;
const MARGIN = 16;

/** The last frame stays for a while before the recording begins again. Milliseconds. */
const PAUSE_MS = 4000;

export function stillImage(lines: readonly string[], theme: Theme): string {
  return page(lines.length, widest(lines), theme, textOf(lines));
}

/** A recording in a dark terminal, over and over. */
export function animation(frames: readonly Frame[]): string {
  const total = frames.at(-1)!.at + PAUSE_MS;
  const groups = frames.map(({ at, lines }, index) => {
    const [start, end] = [at / total, (frames[index + 1]?.at ?? total) / total];
    const times = start === 0 ? `0;${end.toFixed(4)}` : `0;${start.toFixed(4)};${end === 1 ? '1' : end.toFixed(4)}`;
    const values = start === 0 ? 'visible;hidden' : 'hidden;visible;hidden';
    const animate = `<animate attributeName="visibility" values="${values}" keyTimes="${times}" calcMode="discrete" dur="${(total / 1000).toFixed(2)}s" repeatCount="indefinite"/>`;
    return `<g visibility="${index === frames.length - 1 ? 'visible' : 'hidden'}">${animate}${textOf(lines)}</g>`;
  });
  const all = frames.flatMap(({ lines }) => lines);
  return page(Math.max(...frames.map(({ lines }) => lines.length)), widest(all), 'dark', groups.join('\n'));
}

const widest = (lines: readonly string[]): number => Math.max(...lines.map((line) => line.length));

function page(rows: number, columns: number, theme: Theme, content: string): string {
  const { back, text, border } = COLOURS[theme];
  const [width, height] = [Math.ceil(columns * CHARACTER) + 2 * MARGIN, rows * LINE + 2 * MARGIN];
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" font-family="${FONT}" font-size="${SIZE}" fill="${text}">
<rect x="0.5" y="0.5" width="${width - 1}" height="${height - 1}" rx="6" fill="${back}" stroke="${border}"/>
${content}
</svg>
`;
}

const textOf = (lines: readonly string[]): string =>
  lines
    .map((line, row) =>
      line === ''
        ? ''
        : `<text xml:space="preserve" x="${MARGIN}" y="${MARGIN + row * LINE + SIZE}">${escaped(line)}</text>`,
    )
    .join('\n');

const escaped = (text: string): string => text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
