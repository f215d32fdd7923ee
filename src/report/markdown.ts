/** GitHub-flavoured Markdown out of texts that may come from outside: nothing in them becomes a link, an element or a cell. */

import { oneLine, printable } from '../common/printable.ts';

/** A text as code: the only place of Markdown where neither addresses nor names nor HTML mean anything. Empty for an empty text. */
export function code(text: string): string {
  const line = oneLine(text);
  if (line === '') return '';
  // The fence must be longer than any run of backticks inside, and a space keeps it apart from one at an end.
  const longest = Math.max(0, ...[...line.matchAll(/`+/g)].map(([run]) => run.length));
  const fence = '`'.repeat(longest + 1);
  const space = line.startsWith('`') || line.endsWith('`') ? ' ' : '';
  return `${fence}${space}${line}${space}${fence}`;
}

/** Lines as they are, in a block of their own; nothing in them ends it. */
export const codeBlock = (lines: readonly string[]): string =>
  ['```', ...lines.map((line) => printable(line).replace(/\n|```/g, ' ')), '```'].join('\n');

/** A table; `align` has an `r` for each column of numbers. Cells are Markdown: `code` for what comes from outside. */
export const table = (head: readonly string[], rows: readonly (readonly string[])[], align = ''): string =>
  [head, head.map((_, column) => (align[column] === 'r' ? '--:' : '---')), ...rows]
    .map((row) => `| ${row.map(cell).join(' | ')} |`)
    .join('\n');

/** A cell ends at a `|` that has no backslash of its own: https://github.github.com/gfm/#tables-extension- (a pair is a backslash). */
const cell = (text: string): string =>
  text
    .replaceAll('\n', ' ')
    .replace(/(\\*)\|/g, (_, before: string) => `${before}${before.length % 2 === 1 ? '\\' : ''}\\|`);
