/** Colours, where the stream is a terminal and NO_COLOR (https://no-color.org) is not set; util.styleText looks at both. */

import { styleText } from 'node:util';

const COLOURS = { error: 'red', warning: 'yellow', notice: 'cyan' } as const;

/** `error:`, `warning:`, `notice:` as they begin a line of a stream. */
export const paint = (level: keyof typeof COLOURS, stream: NodeJS.WritableStream): string =>
  styleText(COLOURS[level], `${level}:`, { stream });
