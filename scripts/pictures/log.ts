/** The lines of a job's log as GitHub's page has them: groups with a triangle, no masks, no debug lines. */
export function logLines(log: string): string[] {
  let isInGroup = false;
  return log.split(/\r?\n/).flatMap((line) => {
    const [, command, text = ''] = /^::([a-z-]+)(?: [^:]*)?::(.*)$/.exec(line) ?? [];
    if (command === 'group') isInGroup = true;
    if (command === 'group') return [`▾ ${text}`];
    if (command === 'endgroup') isInGroup = false;
    if (command !== undefined && !['notice', 'warning', 'error'].includes(command)) return [];
    if (line === '') return [];
    const shown = command === undefined ? line : `${command}: ${text}`;
    return [isInGroup ? `  ${shown}` : shown];
  });
}
