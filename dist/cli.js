#!/usr/bin/env node
import { createRequire as nodeCreateRequire } from 'node:module'; const require = nodeCreateRequire(import.meta.url);
var OLDEST_NODE=[22,19],[major=0,minor=0]=process.versions.node.split(".").map(Number);(major<OLDEST_NODE[0]||major===OLDEST_NODE[0]&&minor<OLDEST_NODE[1])&&(process.stderr.write(`chunked-push needs Node.js ${OLDEST_NODE.join(".")} or newer, this is ${process.versions.node}
`),process.exit(2));var{flushed,runTerminal,watchOutput}=await import("./cli-run.js"),output=watchOutput(process),code=await runTerminal(process.argv.slice(2),process);process.exit(await flushed(output,code));
