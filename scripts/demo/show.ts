/** How the demo shows a job's log on a terminal. */
import { styleText } from 'node:util';
import { readCommands } from '../../__tests__/support/runner-files.ts';

export const heading = (title: string): void => console.log(`\n${styleText('bold', `== ${title}`)}`);

export const megabytes = (bytes: number): string => `${(bytes / 1e6).toFixed(1)} MB`;

/** Prints the pieces of a log as they come, groups as titles and commands without their colons, as the web page does. */
export const liveLog = (): ((text: string) => void) => {
  let rest = '';
  return (text) => {
    const lines = (rest + text).split('\n');
    rest = lines.pop() ?? '';
    for (const line of lines) showLine(line);
  };
};

const showLine = (line: string): void => {
  const { groups, errors, warnings, notices, visible } = readCommands(line);
  const [group, error, warning, notice] = [groups[0], errors[0], warnings[0], notices[0]];
  if (group !== undefined) console.log(styleText('cyan', `> ${group}`));
  else if (error !== undefined) console.log(styleText('red', `Error: ${error}`));
  else if (warning !== undefined) console.log(styleText('yellow', `Warning: ${warning}`));
  else if (notice !== undefined) console.log(`Notice: ${notice}`);
  else if (!line.startsWith('::')) console.log(`  ${visible}`);
};
