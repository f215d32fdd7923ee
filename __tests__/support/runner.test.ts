import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { runAction } from './runner.ts';
import { readCommands, readValues } from './runner-files.ts';

describe('readValues', () => {
  it('reads lines and blocks', () => {
    expect(readValues('a=1=2\nb<<ghadelimiter_x\nline 1\n\nc=3\nghadelimiter_x\nd=\n')).toEqual({
      a: '1=2',
      b: 'line 1\n\nc=3',
      d: '',
    });
  });

  it('refuses what the runner would refuse', () => {
    expect(() => readValues('b<<END\nline 1\n')).toThrow('the delimiter END does not come again');
    expect(() => readValues('just words\n')).toThrow('not a line of a command file');
  });
});

describe('readCommands', () => {
  it('tells commands from lines, and masks what was to be masked', () => {
    const commands = readCommands(
      '::add-mask::hunter2\n::group::Upload\nlogging in with hunter2\n::debug::x\n::endgroup::\n::error title=Push::no%0Away: hunter2\n',
    );
    expect(commands.masks).toEqual(['hunter2']);
    expect(commands.groups).toEqual(['Upload']);
    expect(commands.errors).toEqual(['no\nway: hunter2']);
    expect(commands.visible).not.toContain('hunter2');
    expect(commands.visible).not.toContain('::debug::');
    expect(commands.visible).toContain('logging in with ***');
  });
});

describe('runAction', () => {
  let action: string;

  beforeAll(() => {
    action = mkdtempSync(join(tmpdir(), 'chunked-push-action-'));
    mkdirSync(join(action, 'dist'));
    writeFileSync(
      join(action, 'action.yml'),
      'inputs: { chunk-size: { default: auto }, image: { required: true } }\nruns: { main: dist/main.mjs, post: dist/post.mjs }\n',
    );
    writeFileSync(
      join(action, 'dist/main.mjs'),
      `import { appendFileSync } from 'node:fs';
      const held = Buffer.alloc(150e6, 1);
      appendFileSync(process.env.GITHUB_OUTPUT, 'environment=' + JSON.stringify(process.env) + '\\n');
      appendFileSync(process.env.GITHUB_STATE, 'key=value\\n');
      appendFileSync(process.env.GITHUB_STEP_SUMMARY, '# ' + process.cwd() + held[0]);
      setTimeout(() => console.log('ready'), 200);
      process.on('SIGTERM', () => process.exit(7));
      setTimeout(() => {}, process.env.INPUT_IMAGE === 'waits' ? 20_000 : 300);`,
    );
    writeFileSync(
      join(action, 'dist/post.mjs'),
      `console.error('::warning::state is ' + process.env.STATE_key); process.exit(3);`,
    );
  });

  afterAll(() => rmSync(action, { recursive: true }));

  it('gives inputs, defaults and nothing of its own environment', async () => {
    process.env.NOT_FOR_THE_ACTION = '1';
    const run = await runAction({ action, inputs: { image: 'a b' }, env: { EXTRA: 'yes' } });
    expect(run.exitCode).toBe(0);
    const environment = JSON.parse(run.outputs.environment!) as Record<string, string>;
    expect(environment).toMatchObject({ INPUT_IMAGE: 'a b', 'INPUT_CHUNK-SIZE': 'auto', EXTRA: 'yes', CI: 'true' });
    expect(environment).not.toHaveProperty('NOT_FOR_THE_ACTION');
    expect(run.summary).toBe(`# ${environment.GITHUB_WORKSPACE}1`);
  });

  it('measures the peak memory', async () => {
    const run = await runAction({ action, inputs: { image: 'x' } });
    expect(run.peakMemory).toBeGreaterThan(150e6);
    expect(run.peakMemory).toBeLessThan(400e6);
  });

  it('hands the state to the post step and tells its exit code', async () => {
    const main = await runAction({ action, inputs: { image: 'x' } });
    const post = await runAction({ action, entry: 'post', state: main.state });
    expect(post.exitCode).toBe(3);
    expect(post.warnings).toEqual(['state is value']);
  });

  it('signals the process while it runs', async () => {
    const run = await runAction({
      action,
      inputs: { image: 'waits' },
      onOutput: (text, signal) => text.includes('ready') && signal('SIGTERM'),
    });
    expect(run.exitCode).toBe(7);
  });
});
