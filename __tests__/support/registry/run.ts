/**
 * The embedded registry as a program: `node __tests__/support/registry/run.ts [--profile NAME] [--limit BYTES] [--dir DIR] [--port N]`.
 * Prints one line of JSON (`{"host":…,"url":…}`) when it listens, then a line for each request on stderr; ends at SIGINT or SIGTERM.
 */
import { parseArgs } from 'node:util';
import { PROFILE_NAMES, type ProfileName } from './profiles.ts';
import { startRegistry } from './server.ts';

const { values } = parseArgs({
  options: {
    profile: { type: 'string', default: 'plain' },
    limit: { type: 'string' },
    dir: { type: 'string' },
    port: { type: 'string', default: '0' },
  },
});

if (!PROFILE_NAMES.includes(values.profile as ProfileName)) {
  throw new Error(`no profile ${values.profile}; there are ${PROFILE_NAMES.join(', ')}`);
}
const registry = await startRegistry({
  profile: values.profile as ProfileName,
  port: Number(values.port),
  ...(values.limit === undefined ? {} : { limit: Number(values.limit) }),
  ...(values.dir === undefined ? {} : { dir: values.dir }),
  log: (line) => process.stderr.write(`${line}\n`),
});
process.stdout.write(`${JSON.stringify({ host: registry.host, url: registry.url })}\n`);
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.once(signal, () => void registry.close().then(() => process.exit(0)));
}
