/** Whatever text comes in, by whichever way: the runner finds our own commands in the log, and no others. */
import { describe, expect, it } from 'vitest';
import type { PushEvent } from '../../src/push/events.ts';
import { HOSTILE_TEXTS } from '../support/hostile-text.ts';
import { randomFrom } from '../support/random.ts';
import { runnerCommands } from '../support/runner-files.ts';
import { runPart } from './step.ts';

const HOST = 'registry.example.com';
const DIGEST = `sha256:${'d'.repeat(64)}` as const;
const texts = Object.values(HOSTILE_TEXTS);

/** Every event with a text, the text in each of its places. */
const eventsWith = (text: string): PushEvent[] => [
  { type: 'info', text },
  { type: 'info', text: `a registry says: ${text}` },
  { type: 'debug', text },
  { type: 'notice', text },
  { type: 'warning', text },
  { type: 'retry', label: text, host: HOST, reason: text, attempt: 1, waitMs: 1000 },
  { type: 'blob-start', label: text, host: text, size: 5 },
  { type: 'blob-progress', label: text, host: text, sent: 1, confirmed: 0, size: 5 },
  {
    type: 'blob-end',
    label: text,
    host: text,
    digest: DIGEST,
    size: 5,
    fate: 'uploaded',
    seconds: 1,
    retries: 0,
    fromCache: false,
  },
  { type: 'limit', host: text, bytes: 5, announced: false },
];

/** Names of the commands that the runner would execute, those of the older syntax in full: none of them is ours. */
const commandsOf = (log: string) =>
  runnerCommands(log).map(({ syntax, name, line }) => (syntax === '::' ? name : line));

/** Nothing in the log but line breaks and what takes place on a line. */
const UNSAFE = /[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\p{Cf}]/u;

describe('the log', () => {
  it('has the commands of our own annotations only', () => {
    const events = texts.flatMap(eventsWith);
    const { log } = runPart('log', { events, showHost: true, closings: 1 });
    const ours = texts.flatMap(() => ['debug', 'notice', 'warning']);
    expect(commandsOf(log)).toEqual(ours);
    expect(UNSAFE.exec(log)?.[0]).toBeUndefined();
  });

  it('has them with any mixture of what is special to the runner', () => {
    const random = randomFrom(7);
    const parts = [
      '##[',
      '#',
      '[',
      ']',
      '::',
      ':',
      ' ',
      '\r',
      '\n',
      '\u00ad',
      '\u200b',
      '\u0085',
      '\u001b[',
      'group',
      'error',
      'stop-commands',
      'x',
    ];
    const text = () => Array.from({ length: 12 }, () => parts[Math.floor(random() * parts.length)]).join('');
    const events = Array.from({ length: 3000 }, (): PushEvent => ({ type: 'info', text: text() }));
    const { log } = runPart('log', { events, showHost: false, closings: 1 });
    expect(log.split('\n').length).toBeGreaterThan(3000);
    expect(commandsOf(log)).toEqual([]);
  });

  it('would have others without that: the texts are what they are said to be', () => {
    const found = texts.filter((text) => runnerCommands(text).length > 0);
    expect(found.length).toBeGreaterThanOrEqual(14);
  });
});

describe('the error of the step', () => {
  it('is one command, causes and all', () => {
    const message = texts.join('\n');
    const { log } = runPart('fail', { step: texts[0], message, remedy: texts[1], causes: texts.slice(0, 5) });
    expect(commandsOf(log)).toEqual(['error']);
    expect(UNSAFE.exec(log)?.[0]).toBeUndefined();
  });
});

describe('outputs and the summary', () => {
  it('print nothing that the runner obeys', () => {
    const failures = texts.map((text) => ({ destination: text, error: { message: text } }));
    const tags = texts.map((text) => ({ reference: text, digest: DIGEST, error: text }));
    const metadata = {
      tags,
      blobs: [],
      bytesSent: 0,
      bytesResent: 0,
      export: texts[0],
      limits: {},
      spoolPeak: 0,
      seconds: {},
    };
    const result = { digest: DIGEST, imageId: DIGEST, image: texts[0], failures, metadata };
    expect(commandsOf(runPart('outputs', result).log)).toEqual([]);
    expect(commandsOf(runPart('failPartly', result).log)).toEqual(['error']);
  });
});

describe('the post step', () => {
  const stateOf = (plan: unknown) => ({ 'STATE_save-plan': typeof plan === 'string' ? plan : JSON.stringify(plan) });
  const entry = { key: 'k', file: 'f', path: '/runner/temp/chunked-push/tmp/f', size: 1 };
  const plan = { version: 1, workspace: '/runner/temp/chunked-push/tmp/s', pointers: [], layers: [], dropped: [] };

  it.each([
    ['a workspace elsewhere', { ...plan, workspace: '/etc' }],
    ['a workspace above', { ...plan, workspace: '/runner/temp/chunked-push/../x' }],
    ['the folder itself', { ...plan, workspace: '/runner/temp/chunked-push' }],
    ['a relative workspace', { ...plan, workspace: 'save' }],
    ['a layer elsewhere', { ...plan, layers: [{ ...entry, path: '/home/runner/.ssh/id_ed25519' }] }],
    ['a pointer above', { ...plan, pointers: [{ ...entry, path: '/runner/temp/chunked-push/a/../../b' }] }],
    ['a file that is a path', { ...plan, layers: [{ ...entry, file: '../../b' }] }],
    ['no path', { ...plan, layers: [{ ...entry, path: 7 }] }],
  ])('refuses a plan with %s', (_, hostile) => {
    const { warnings, exitCode } = runPart('post', undefined, {
      env: { RUNNER_TEMP: '/runner/temp', ...stateOf(hostile) },
    });
    expect(warnings).toEqual([expect.stringMatching(/^The layer cache could not be saved: its plan /)]);
    expect(exitCode).toBe(0);
  });

  it('says nothing that the runner obeys, whatever the state is', () => {
    const hostile = { ...plan, workspace: texts.join('\n') };
    for (const state of [hostile, texts[0], '{']) {
      const { log } = runPart('post', undefined, { env: { RUNNER_TEMP: '/runner/temp', ...stateOf(state) } });
      expect(commandsOf(log)).toEqual(['warning']);
    }
  });
});
