/** `Warning: 299 - "text"`, which a registry may send with any answer. distribution-spec, section Warnings; RFC 7234, 5.5. */

const WARNING = /(?:^|,)\s*299\s+\S+\s+"((?:[^"\\]|\\.)*)"/g;

/** More than the specification allows for one warning is not shown in full. */
const LONGEST_CHARACTERS = 255;

/** The texts of the warnings in these header values, without control characters. */
export function warningTexts(headers: readonly string[]): string[] {
  return headers.flatMap((header) =>
    [...header.matchAll(WARNING)].map((match) =>
      (match[1] ?? '')
        .replace(/\\(.)/g, '$1')
        .replace(/[\x00-\x1f\x7f]+/g, ' ')
        .slice(0, LONGEST_CHARACTERS),
    ),
  );
}
