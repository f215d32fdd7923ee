#!/usr/bin/env node
/** The same push from a terminal, or from any other CI. */

/** undici 8 needs it; an older Node would die with a stack trace at its import. */
const OLDEST_NODE = [22, 19] as const;

const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
if (major < OLDEST_NODE[0] || (major === OLDEST_NODE[0] && minor < OLDEST_NODE[1])) {
  process.stderr.write(
    `chunked-push needs Node.js ${OLDEST_NODE.join('.')} or newer, this is ${process.versions.node}\n`,
  );
  process.exit(2);
}
const { flushed, runTerminal, watchOutput } = await import('./terminal/run.ts');
const output = watchOutput(process);
const code = await runTerminal(process.argv.slice(2), process);
process.exit(await flushed(output, code));
