import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { USAGE } from '../../src/terminal/help.ts';
import { gatewayError } from '../support/fault-proxy/faults.ts';
import { type FaultProxy, startFaultProxy } from '../support/fault-proxy/proxy.ts';
import { writeDockerArchive } from '../support/images.ts';
import { pullBack } from '../support/real/pull.ts';
import { type DockerRegistry, REGISTRY_LOGIN, startDockerRegistry } from '../support/real/registry.ts';
import { describeWith } from '../support/real/suite.ts';
import { type CommandOptions, runCommand, runInTerminal } from '../support/terminal.ts';

const RECIPE = {
  seed: 'terminal',
  layers: [
    { bytes: 2_500_000, content: 'random' as const },
    { bytes: 1_500_000, content: 'random' as const },
    { bytes: 100 },
  ],
};
/** Slow enough for bars to be seen, bytes a second. */
const BANDWIDTH = 1_500_000;

describeWith(['docker-registry', 'skopeo'], 'the command chunked-push', () => {
  let folder: string;
  let image: string;
  let registry: DockerRegistry;
  let locked: DockerRegistry;
  let options: CommandOptions;

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'chunked-push-terminal-'));
    image = `docker-archive:${join(folder, 'image.tar')}`;
    await writeDockerArchive(join(folder, 'image.tar'), 'app:1', RECIPE);
    [registry, locked] = await Promise.all([startDockerRegistry(), startDockerRegistry({ auth: true })]);
    options = { env: { HOME: folder } };
  });

  afterAll(async () => {
    await Promise.all([registry?.stop(), locked?.stop()]);
    rmSync(folder, { recursive: true });
  });

  /** A slow link to the registry while a test runs. */
  const onSlowLink = async <T>(test: (proxy: FaultProxy) => Promise<T>): Promise<T> => {
    const proxy = await startFaultProxy({ target: registry.host, bandwidth: BANDWIDTH });
    try {
      return await test(proxy);
    } finally {
      await proxy.close();
    }
  };

  describe('in a pipe', () => {
    it('prints the pinned reference on standard output, and plain lines on standard error', async () => {
      const reference = `${registry.host}/pipe/app:1`;
      const { exitCode, stdout, stderr } = await runCommand([image, '--to', reference], options);
      expect(exitCode).toBe(0);
      const { digest } = await pullBack(reference);
      expect(stdout).toBe(`${registry.host}/pipe/app@${digest}\n`);
      expect(stderr).toMatch(/^layer \d\/\d [0-9a-f]{12}: uploaded, 2\.5 MB in /m);
      expect(stderr).not.toContain('\x1b');
      expect(stderr).not.toContain('\r');
    });

    it('says little when nothing is to be done', async () => {
      const args = [image, '--to', `${registry.host}/pipe/app:1`, '--to', `${registry.host}/pipe/app:2`];
      const { exitCode, stderr } = await runCommand(args, options);
      expect(exitCode).toBe(0);
      expect(stderr).not.toContain('uploading');
      expect(stderr.split('\n').length).toBeLessThan(12);
    });

    it('--json prints what a script wants, on one line', async () => {
      const { exitCode, stdout } = await runCommand([image, '--to', `${registry.host}/pipe/json:1`, '--json'], options);
      expect(exitCode).toBe(0);
      expect(stdout.split('\n')).toHaveLength(2);
      const { digest } = await pullBack(`${registry.host}/pipe/json:1`);
      expect(JSON.parse(stdout)).toMatchObject({
        digest,
        image: `${registry.host}/pipe/json@${digest}`,
        imageid: expect.stringMatching(/^sha256:/),
        metadata: { tags: [{ reference: `${registry.host}/pipe/json:1`, digest }] },
      });
    });

    it.each(['\n', '', '\r\n'])('--password-stdin reads the password, with %j behind it', async (end) => {
      const reference = `${locked.host}/pipe/app:1`;
      const args = [image, '--to', reference, '--username', REGISTRY_LOGIN.username, '--password-stdin'];
      const result = await runCommand(args, { ...options, input: `${REGISTRY_LOGIN.password}${end}` });
      expect(result).toMatchObject({ exitCode: 0 });
      expect(result.stdout + result.stderr).not.toContain(REGISTRY_LOGIN.password);
    });

    it('--dry-run changes nothing', async () => {
      const args = [image, '--to', `${registry.host}/pipe/dry:1`, '--dry-run'];
      const { exitCode, stdout, stderr } = await runCommand(args, options);
      expect({ exitCode, stdout }).toEqual({ exitCode: 0, stdout: '' });
      expect(stderr).toContain(`Would put the manifest as ${registry.host}/pipe/dry:1`);
      expect(registry.manifests().filter((name) => name.startsWith('pipe/dry'))).toEqual([]);
    });

    it('ends with 1 when a push fails, with one line that says why', async () => {
      const { exitCode, stdout, stderr } = await runCommand([image, '--to', `${locked.host}/pipe/app:2`], options);
      expect({ exitCode, stdout }).toEqual({ exitCode: 1, stdout: '' });
      expect(stderr.trimEnd().split('\n').at(-1)).toMatch(/^error: .*401/);
    });

    it('ends with 1 when one of several destinations fails, and prints no reference', async () => {
      const args = [image, '--to', `${registry.host}/pipe/partly:1`, '--to', `${locked.host}/pipe/partly:1`];
      const { exitCode, stdout, stderr } = await runCommand(args, options);
      expect({ exitCode, stdout }).toEqual({ exitCode: 1, stdout: '' });
      expect(stderr).toContain(`error: ${locked.host}/pipe/partly: `);
      await pullBack(`${registry.host}/pipe/partly:1`);
    });

    it.each([
      ['no image', [], /IMAGE is missing/],
      ['two images', ['a', 'b'], /one IMAGE at a time: a b/],
      ['an unknown flag', ['app', '--frobnicate'], /--frobnicate/],
      ['a flag without its value', ['app', '--to'], /--to/],
      ['a bad value', ['app', '--chunk-size', 'much'], /chunk-size: "much" is not a size/],
    ])('ends with 2 at wrong usage: %s', async (_, args, message) => {
      const { exitCode, stdout, stderr } = await runCommand(args, options);
      expect({ exitCode, stdout }).toEqual({ exitCode: 2, stdout: '' });
      expect(stderr).toMatch(message);
    });

    it('ends with 130 at SIGINT and SIGTERM', async () => {
      for (const name of ['SIGINT', 'SIGTERM'] as const) {
        const result = await onSlowLink((proxy) => {
          let signalled = false;
          return runCommand([image, '--to', `${proxy.host}/pipe/${name.toLowerCase()}:1`, '--no-cache'], {
            ...options,
            onOutput: (text, { signal }) => {
              if (!signalled && text.includes('uploading')) signal(name);
              signalled ||= text.includes('uploading');
            },
          });
        });
        expect(result).toMatchObject({ exitCode: 130, stdout: '' });
        expect(result.stderr).toContain('the push was cancelled');
      }
    });

    it('--help and --version need nothing', async () => {
      expect(await runCommand(['--help'], options)).toEqual({ exitCode: 0, stdout: USAGE, stderr: '' });
      const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8'));
      expect(await runCommand(['--version'], options)).toEqual({ exitCode: 0, stdout: `${version}\n`, stderr: '' });
    });
  });

  describe('in a terminal', () => {
    const size = { columns: 100, rows: 24 };

    it('shows live rows with bar, percent, rate and time left, and leaves only what ended', async () => {
      const { exitCode, raw, lines } = await onSlowLink((proxy) =>
        runInTerminal([image, '--to', `${proxy.host}/tty/app:1`, '--no-cache', '--chunk-size', '500kB'], {
          ...options,
          ...size,
        }),
      );
      expect(exitCode).toBe(0);
      expect(raw).toMatch(/[0-9a-f]{12} \[=+ *\] +\d+% {2}[\d.]+ [kM]B of 2\.5 MB {2}[\d.]+ [kM]B\/s {2}\d+ s left/);
      expect(raw).toMatch(/total +\[=* *\] +\d+% {2}/);
      expect(lines.filter((line) => line.includes('['))).toEqual([]);
      expect(lines.filter((line) => /^(?:layer \d\/\d|config) [0-9a-f]{12}: uploaded, /.test(line))).toHaveLength(4);
      expect(lines.at(-1)).toMatch(/\/tty\/app@sha256:[0-9a-f]{63}/);
      // The cursor is seen again, and long lines wrap again.
      expect(raw.lastIndexOf('\x1b[?25h')).toBeGreaterThan(raw.lastIndexOf('\x1b[?25l'));
      expect(raw.lastIndexOf('\x1b[?7h')).toBeGreaterThan(raw.lastIndexOf('\x1b[?7l'));
    });

    it('shows why and when something is tried again', async () => {
      const { exitCode, raw, lines } = await onSlowLink((proxy) => {
        proxy.faults.add({ step: ['upload-patch', 'upload-put'], nth: 2, times: 2, fault: gatewayError(502) });
        const args = [image, '--to', `${proxy.host}/tty/retry:1`, '--no-cache', '--chunk-size', '1MB'];
        return runInTerminal(args, { ...options, ...size });
      });
      expect(exitCode).toBe(0);
      expect(lines.join('')).toMatch(/try 1 failed: .*502 Gateway Error.*again in/);
      expect(raw).toMatch(/trying again in [\d.]+ s/);
      expect(lines.join('\n')).toMatch(/uploaded, .* \(\d retr(y|ies)\)/);
    });

    it.each([
      [40, 6],
      [20, 3],
    ])('fits into %d columns and %d rows', async (columns, rows) => {
      const { exitCode, raw, lines } = await onSlowLink((proxy) =>
        runInTerminal([image, '--to', `${proxy.host}/tty/narrow${columns}:1`, '--no-cache'], {
          ...options,
          columns,
          rows,
        }),
      );
      expect(exitCode).toBe(0);
      expect(raw).toContain('total');
      const left = lines.join('').replaceAll(/(?:layer \d\/\d|config) [0-9a-f]{12}: uploaded,/g, '');
      expect(left).not.toContain('total');
      expect(left).not.toContain('%');
    });

    it('prints lines when no row is ever shown', async () => {
      const args = [image, '--to', `${registry.host}/pipe/app:1`];
      const { exitCode, lines } = await runInTerminal(args, { ...options, ...size });
      expect(exitCode).toBe(0);
      expect(lines.filter((line) => line.includes('exists already'))).toHaveLength(4);
    });

    it('ends with 130 at Ctrl-C, with a clean screen', async () => {
      const { exitCode, raw, lines } = await onSlowLink((proxy) => {
        let typed = false;
        return runInTerminal([image, '--to', `${proxy.host}/tty/cancel:1`, '--no-cache'], {
          ...options,
          ...size,
          onOutput: (text, { type }) => {
            if (!typed && text.includes('%')) type('\x03');
            typed ||= text.includes('%');
          },
        });
      });
      expect(exitCode).toBe(130);
      expect(lines.at(-1)).toBe('error: Cancelled: the push was cancelled');
      expect(lines.filter((line) => line.includes('['))).toEqual([]);
      expect(raw.lastIndexOf('\x1b[?25h')).toBeGreaterThan(raw.lastIndexOf('\x1b[?25l'));
    });
  });
});
