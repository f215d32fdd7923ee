/** `npm test`: brings the real parts onto the machine, runs every test, ends with one line: `N passed, N failed`. */
import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { TEST_PARTS } from '../__tests__/support/real/parts.ts';
import { setup } from './setup/parts.ts';

/** What counts in the JSON report of vitest, which has Jest's form. */
interface Report {
  readonly numPassedTests: number;
  readonly numFailedTests: number;
  readonly numPendingTests: number;
}

const vitest = (report: string, args: readonly string[]): Promise<number> =>
  new Promise((resolve, reject) => {
    const reporters = ['--reporter=default', '--reporter=json', `--outputFile.json=${report}`];
    const child = spawn('vitest', ['run', ...reporters, ...args], { stdio: 'inherit' });
    // Ctrl-C reaches vitest too, which ends its servers; this process waits for that.
    process.on('SIGINT', () => {});
    process.on('SIGTERM', () => child.kill('SIGTERM'));
    child.once('error', reject);
    child.once('close', (code) => resolve(code ?? 1));
  });

const read = (report: string): Report => {
  try {
    return JSON.parse(readFileSync(report, 'utf8')) as Report;
  } catch {
    return { numPassedTests: 0, numFailedTests: 0, numPendingTests: 0 };
  }
};

const folder = mkdtempSync(join(tmpdir(), 'chunked-push-test-'));
try {
  console.log('1. The real engines, registries and clients that the tests run against');
  const missing = await setup(TEST_PARTS);
  console.log('2. All tests (vitest), end-to-end runs of the committed dist among them');
  const report = join(folder, 'report.json');
  const code = await vitest(report, process.argv.slice(2));
  const { numPassedTests: passed, numFailedTests, numPendingTests: skipped } = read(report);
  // A file that can't be loaded, or an error outside of a test, fails the run without failing a test.
  const failed = code !== 0 || missing.length > 0 ? Math.max(numFailedTests, 1) : numFailedTests;
  console.log(`${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ''}`);
  process.exitCode = failed > 0 || passed === 0 ? 1 : 0;
} finally {
  rmSync(folder, { recursive: true, force: true });
}
