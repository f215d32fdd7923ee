/** Where an engine's tool is. */
import { accessSync, constants } from 'node:fs';
import { delimiter, join } from 'node:path';

/** Where a tool is, by the PATH of `env`; undefined when it is not installed. */
export function findTool(tool: string, env: NodeJS.ProcessEnv): string | undefined {
  for (const folder of (env.PATH ?? '').split(delimiter)) {
    const path = join(folder || '.', tool);
    try {
      accessSync(path, constants.X_OK);
      return path;
    } catch {
      // Not there, or not for us: the next one.
    }
  }
  return undefined;
}
