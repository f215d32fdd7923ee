/**
 * Text from outside (answers of registries, headers, archives' names, annotations, output of helpers and engines) on
 * its way to a terminal, a log or an error: it must not move the cursor, reverse the reading direction, or hide a part
 * of itself.
 */

import { stripVTControlCharacters } from 'node:util';

/**
 * Control characters, the separators that break lines, and what takes no place (bidi controls, zero-width characters,
 * tags). The Actions runner compares by culture, which ignores the latter: to it `#<soft hyphen>#[` begins with `##[`.
 */
const INVISIBLE = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}]/gu;

/** One line of a log; longer texts are cut. */
const LINE_CHARACTERS = 300;

/** The same text without control sequences and invisible characters. Line breaks (LF, CRLF, CR) stay, as LF. */
export const printable = (text: string): string =>
  text
    .split(/\r\n|\r|\n/)
    .map(printableLine)
    .join('\n');

/** The text in one line: line breaks and other white space become one space each run. Cut at `limit` characters. */
export function oneLine(text: string, limit = LINE_CHARACTERS): string {
  const line = printableLine(text.replace(/\s+/g, ' ')).replace(/ {2,}/g, ' ').trim();
  return line.length > limit ? `${line.slice(0, limit - 1)}…` : line;
}

/**
 * JSON in one line whose invisible characters are escaped: they stay what they are, and a terminal does not obey them.
 */
export const printableJson = (value: unknown): string =>
  JSON.stringify(value).replace(INVISIBLE, (character) =>
    [...Array(character.length).keys()]
      .map((at) => `\\u${character.charCodeAt(at).toString(16).padStart(4, '0')}`)
      .join(''),
  );

const printableLine = (line: string): string =>
  stripVTControlCharacters(line).replace(INVISIBLE, (character) =>
    /\p{Cc}|\p{Zl}|\p{Zp}/u.test(character) ? ' ' : '',
  );
