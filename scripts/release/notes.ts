/** Release notes out of CHANGELOG.md. */

/**
 * Returns the section of a version, such as `1.2.3`, without its heading. Throws an Error when there is none or nothing in it: a release
 * without a word on what changed is a mistake.
 */
export const notesOf = (changelog: string, version: string): string => {
  const sections = changelog.split(/^## /m).slice(1);
  const section = sections.find((text) => text.startsWith(`[${version}]`));
  if (section === undefined) throw new Error(`CHANGELOG.md has no section "## [${version}]"`);
  // Link definitions at the end of the file belong to no section.
  const text = section
    .slice(section.indexOf('\n'))
    .replace(/^\[[^\]]+\]: .*$/gm, '')
    .trim();
  if (text === '') throw new Error(`CHANGELOG.md says nothing in its section "## [${version}]"`);
  return `${text}\n`;
};
