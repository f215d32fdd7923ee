/** What was measured, in which version, and on what machine (without its name). */
import { readFileSync } from 'node:fs';
import { arch, availableParallelism, cpus, totalmem } from 'node:os';
import { commandOf } from '../../__tests__/support/real/parts.ts';
import { run } from '../../__tests__/support/real/processes.ts';
import { crane, skopeo } from './tools.ts';

const GIB = 1024 ** 3;

/** By what it is; the versions as the programs print them. */
export async function versionsOf(): Promise<Readonly<Record<string, string>>> {
  const first = async (command: readonly string[]): Promise<string> => {
    const [program = '', ...args] = command;
    return /\d+\.\d+[^\s,]*/.exec(await run(program, args))?.[0] ?? 'unknown';
  };
  return {
    Machine: `${availableParallelism()} cores (${cpus()[0]?.model.trim()}, ${arch()}), ${Math.round(totalmem() / GIB)} GiB of memory`,
    System: /^PRETTY_NAME="(.*)"$/m.exec(readFileSync('/etc/os-release', 'utf8'))?.[1] ?? 'unknown',
    'Node.js': process.version,
    'Docker (new)': await first([commandOf('docker-sid', 'dockerd'), '--version']),
    'Docker (old)': await first([commandOf('docker', 'dockerd'), '--version']),
    'docker-registry': await first([commandOf('docker-registry', 'docker-registry'), '--version']),
    nginx: await first(['sh', '-c', `${commandOf('nginx', 'nginx')} -v 2>&1`]),
    skopeo: await first([...skopeo(), '--version']),
    podman: await first([commandOf('podman', 'podman'), '--version']),
    crane: crane() ? '0.20 of Debian sid' : 'none: it is in no package of this system',
  };
}
