/** `node scripts/run.mjs big-push [MEGABYTES]`: the push that people come for at full size; 1552 MB (one layer of 900) unless told. */
import { bigPush, type Measured } from '../__tests__/support/big-push.ts';
import { startDocker } from '../__tests__/support/real/docker.ts';
import { setup } from './setup/parts.ts';

const MB = 1_000_000;
const MEMORY_LIMIT = 200 * MB;
/** 58 % of it are 900 MB. */
const DEFAULT_MEGABYTES = 1552;

const megabytes = Number(process.argv[2] ?? DEFAULT_MEGABYTES);
if (!(megabytes > 0)) throw new Error(`${process.argv[2]} is not a number of megabytes`);

const report = (name: string, { run }: Measured): void => {
  const { bytesSent, seconds } = JSON.parse(run.outputs.metadata ?? '{}') as { bytesSent?: number; seconds?: object };
  console.log(
    `${name}: ${run.seconds.toFixed(1)} s, peak memory ${((run.peakMemory ?? 0) / MB).toFixed(0)} MB, sent ${((bytesSent ?? 0) / MB).toFixed(0)} MB`,
  );
  console.log(`  ${JSON.stringify(seconds)}`);
  for (const error of run.errors) console.log(`  ${error}`);
};

const wanted = await setup(['docker', 'docker-trixie', 'docker-registry', 'nginx']);
if (wanted.length > 0) process.exit(1);
const classic = await startDocker({ version: 'debian', store: 'overlay2' });
const containerd = await startDocker({ version: 'trixie', store: 'containerd' });
try {
  const result = await bigPush({ bytes: megabytes * MB, classic, containerd, log: console.log });
  report('from the classic store', result.classic);
  report('from the containerd image store', result.containerd);
  console.log(`largest request through nginx: ${result.largestBody} bytes`);
  const little = ({ run }: Measured) => run.peakMemory !== undefined && run.peakMemory < MEMORY_LIMIT;
  const checks: readonly (readonly [string, boolean])[] = [
    ['both pushes succeeded', result.classic.run.exitCode === 0 && result.containerd.run.exitCode === 0],
    ['the digest output is what the registry serves', result.classic.run.outputs.digest === result.classic.served],
    ['docker pull gives the same image ID', result.pulledId === result.builtId],
    [
      'the containerd image store gives the digest of docker push',
      result.containerd.run.outputs.digest === result.dockerDigest,
    ],
    [`peak memory under ${MEMORY_LIMIT / MB} MB`, little(result.classic) && little(result.containerd)],
  ];
  for (const [name, passed] of checks) console.log(`${passed ? 'passed' : 'FAILED'}: ${name}`);
  process.exitCode = checks.every(([, passed]) => passed) ? 0 : 1;
} finally {
  await Promise.all([classic.stop(), containerd.stop()]);
}
