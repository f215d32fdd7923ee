/** Time and memory by the image's size, as an SVG: two panels, one line for each way. */
import { type Attempt, median, type Results } from './results.ts';
import { MEMORY_SIZES, SIZE_WAYS, sizeRow } from './studies.ts';

const WIDTH = 360;
const HEIGHT = 240;
const LEFT = 46;
const TOP = 30;
const COLOURS = ['#1f6feb', '#8250df', '#1a7f37', '#bc4c00'];

interface Line {
  readonly name: string;
  readonly points: ReadonlyArray<readonly [gigabytes: number, value: number]>;
}

/** Undefined before the sizes were measured. */
export function plotOf(results: Results): string | undefined {
  const names = SIZE_WAYS.filter((name) => MEMORY_SIZES.some((recipe) => sizeRow(results, recipe, name)));
  if (names.length === 0) return undefined;
  const lines = (of: (attempt: Attempt) => number): Line[] =>
    names.map((name) => ({
      name: name.replace('chunked-push ', ''),
      points: MEMORY_SIZES.flatMap((recipe) => {
        const row = sizeRow(results, recipe, name);
        const gigabytes = recipe.layers.reduce((sum, bytes) => sum + bytes, 0) / 1e9;
        return row ? [[gigabytes, median(row.attempts.map(of))] as const] : [];
      }),
    }));
  const panels = [
    panel(
      'seconds',
      lines(({ seconds }) => seconds),
      0,
    ),
    panel(
      'peak memory, MB',
      lines(({ peakMemory }) => (peakMemory ?? 0) / 1e6),
      WIDTH + 40,
    ),
  ];
  const size = `width="${2 * WIDTH + 60}" height="${HEIGHT + 70}"`;
  const font = 'font-family="sans-serif" font-size="11"';
  return `<svg xmlns="http://www.w3.org/2000/svg" ${size} ${font}>
<rect width="100%" height="100%" fill="#fff"/>
${panels.join('\n')}
</svg>
`;
}

function panel(title: string, lines: readonly Line[], x: number): string {
  const values = lines.flatMap(({ points }) => points);
  const most = Math.max(...values.map(([gigabytes]) => gigabytes));
  const highest = niceAbove(Math.max(...values.map(([, value]) => value)));
  const across = (gigabytes: number) => (LEFT + (gigabytes / most) * (WIDTH - LEFT)).toFixed(1);
  const up = (value: number) => (TOP + HEIGHT - (value / highest) * HEIGHT).toFixed(1);
  const grid = [0, 0.25, 0.5, 0.75, 1].map((part) => {
    const y = up(part * highest);
    return `<path d="M${LEFT} ${y}H${WIDTH}" stroke="#ddd"/><text x="${LEFT - 6}" y="${y}" text-anchor="end">${part * highest}</text>`;
  });
  const ticks = [...new Set(values.map(([gigabytes]) => gigabytes))].map(
    (gigabytes) => `<text x="${across(gigabytes)}" y="${TOP + HEIGHT + 14}" text-anchor="middle">${gigabytes}</text>`,
  );
  const drawn = lines.map(({ name, points }, index) => {
    const colour = COLOURS[index % COLOURS.length];
    const path = points.map(([gigabytes, value]) => `${across(gigabytes)},${up(value)}`).join(' ');
    const dots = points.map(
      ([gigabytes, value]) => `<circle cx="${across(gigabytes)}" cy="${up(value)}" r="3" fill="${colour}"/>`,
    );
    const legend = `<text x="${LEFT + index * 80}" y="${TOP + HEIGHT + 32}" fill="${colour}">${name}</text>`;
    return `<polyline points="${path}" fill="none" stroke="${colour}" stroke-width="2"/>${dots.join('')}${legend}`;
  });
  const heading = `<text x="${LEFT}" y="${TOP - 14}" font-weight="bold">${title} by size of the image in GB</text>`;
  return `<g transform="translate(${x} 0)">${[heading, ...grid, ...ticks, ...drawn].join('\n')}</g>`;
}

/** The next number above that divides well by four. */
function niceAbove(value: number): number {
  const step = 10 ** Math.floor(Math.log10(value));
  return ([1, 2, 4, 6, 8, 10].find((factor) => factor * step >= value) ?? 10) * step;
}
