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

/** The same text without control sequences, invisible characters and `##[`. Line breaks (LF, CRLF, CR) stay, as LF. */
export const printable = (text: string): string =>
  text
    .split(/\r\n|\r|\n/)
    .map((line) => printableLine(line).replace(COMMAND_ANYWHERE, '## '))
    .join('\n');

/**
 * A text for lines that a runner reads: those of the action, and those of the terminal's command in a `run` step. A
 * line there may be a command (https://github.com/actions/runner/blob/main/src/Runner.Common/ActionCommand.cs):
 * `::name::` at its start after white space, or `##[name]` anywhere in it. A registry whose error text has one could
 * set state, hide its traces or stop the masking of secrets.
 */
export const plainLines = (text: string): string => printable(text).replace(/^([^\S\n]*):(?=:)/gm, '$1: ');

/** The start of a runner's command, of Azure Pipelines (`##vso[`) too. */
const COMMAND_ANYWHERE = /##(?=(?:vso)?\[)/gi;

/** The text in one line: line breaks and other white space become one space each run. Cut at `limit` characters. */
export function oneLine(text: string, limit = LINE_CHARACTERS): string {
  return cut(printableLine(text.replace(/\s+/g, ' ')).replace(/ {2,}/g, ' ').trim(), limit);
}

/** A text of at most so many characters (UTF-16 units); one that is longer ends in `…`, and never in half a character. */
export const cut = (text: string, limit: number): string =>
  text.length > limit ? `${text.slice(0, limit - 1).replace(/[\uD800-\uDBFF]$/, '')}…` : text;

/**
 * JSON in one line whose invisible characters are escaped: they stay what they are, and a terminal does not obey them.
 * So is what could begin a workflow command.
 */
export const printableJson = (value: unknown): string =>
  JSON.stringify(value).replace(INVISIBLE, escaped).replace(COMMAND_ANYWHERE, escaped);

const escaped = (characters: string): string =>
  [...Array(characters.length).keys()]
    .map((at) => `\\u${characters.charCodeAt(at).toString(16).padStart(4, '0')}`)
    .join('');

const printableLine = (line: string): string =>
  stripVTControlCharacters(line).replace(INVISIBLE, (character) =>
    /\p{Cc}|\p{Zl}|\p{Zp}/u.test(character) ? ' ' : '',
  );
