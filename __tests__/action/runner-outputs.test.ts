/** What the step leaves behind: command files, the summary, its one error. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { Digest } from '../../src/oci/types.ts';
import type { ToldError, ToldResult } from './program.ts';
import { runPart } from './step.ts';

const digestOf = (letter: string): Digest => `sha256:${letter.repeat(64)}`;
const DIGEST = digestOf('d');
const IMAGE_ID = digestOf('c');
const REPOSITORY = 'registry.example.com/team/app';
const TAG = `${REPOSITORY}:1`;

const seconds = {
  total: 12,
  resolve: 1,
  transfer: 10,
  manifest: 1,
  waitingForExport: 0,
  compressing: 3,
  heldBack: 0,
  sending: 5,
  waitingForRegistry: 1,
};

const PUSHED: ToldResult = {
  digest: DIGEST,
  imageId: IMAGE_ID,
  image: `${REPOSITORY}@${DIGEST}`,
  digests: { [TAG]: DIGEST },
  changed: true,
  savePlan: undefined,
  failures: [],
  metadata: {
    tags: [{ reference: TAG, digest: DIGEST }],
    blobs: [],
    bytesSent: 1000,
    bytesResent: 0,
    export: 'docker save',
    limits: {},
    spoolPeak: 0,
    seconds,
  },
};

const withTags = (...tags: ToldResult['metadata']['tags']): ToldResult['metadata'] => ({ ...PUSHED.metadata, tags });

describe('outputs', () => {
  it('are all there after a push, and the log has the pinned reference', () => {
    const { outputs, log, state, exitCode } = runPart('outputs', PUSHED);
    expect(Object.keys(outputs).sort()).toEqual(['changed', 'digest', 'digests', 'image', 'imageid', 'metadata']);
    expect(outputs).toMatchObject({ digest: DIGEST, image: `${REPOSITORY}@${DIGEST}`, imageid: IMAGE_ID });
    expect(JSON.parse(outputs.metadata ?? '')).toEqual(PUSHED.metadata);
    expect(log.split('\n')).toEqual([`${TAG}: ${DIGEST}`, `Pushed ${REPOSITORY}@${DIGEST}`, '']);
    expect([state, exitCode]).toEqual([{}, 0]);
  });

  it('have no digest when one of several destinations failed, but say which', () => {
    const other = { reference: 'other.example.com/app:1', error: 'asking the registry: 503' };
    const { outputs, log } = runPart('outputs', {
      ...PUSHED,
      metadata: withTags({ reference: TAG, digest: DIGEST }, other),
      failures: [{ destination: 'other.example.com/app', error: { message: 'asking the registry: 503' } }],
    });
    expect(Object.keys(outputs).sort()).toEqual(['imageid', 'metadata']);
    expect(JSON.parse(outputs.metadata ?? '').tags).toEqual([{ reference: TAG, digest: DIGEST }, other]);
    expect(log).not.toContain('Pushed');
  });

  it('have no digest after a dry run', () => {
    const { outputs, log } = runPart('outputs', {
      ...PUSHED,
      digest: undefined,
      image: undefined,
      metadata: withTags({ reference: TAG }),
    });
    expect(Object.keys(outputs).sort()).toEqual(['imageid', 'metadata']);
    expect(log).toBe('');
  });

  it('a registry’s words of several lines stay inside their own value', () => {
    // Each of these lines would be a value of its own if it came to stand at the beginning of a line of the file.
    const error = `403: denied\ndigest=${digestOf('e')}\nimage<<EOF\n${REPOSITORY}@evil\nEOF\r\n::set-output name=digest::evil`;
    const { outputs, log } = runPart('outputs', { ...PUSHED, metadata: withTags({ reference: TAG, error }) });
    expect(outputs).toMatchObject({ digest: DIGEST, image: `${REPOSITORY}@${DIGEST}` });
    expect(Object.keys(outputs)).toHaveLength(6);
    expect(JSON.parse(outputs.metadata ?? '').tags).toEqual([{ reference: TAG, error }]);
    expect(log).not.toContain('evil');
  });

  it('each pushed reference is an artifact where the runner collects them', () => {
    const folder = mkdtempSync(join(tmpdir(), 'artifacts-test-'));
    const file = join(folder, 'artifacts');
    writeFileSync(file, 'oci://others@sha256:0\n');
    const digests = { [TAG]: DIGEST, 'other.example.com/app:1': DIGEST };
    try {
      runPart('outputs', { ...PUSHED, digests }, { env: { GITHUB_ARTIFACTS: file } });
      const lines = [TAG, 'other.example.com/app:1'].map((reference) => `oci://${reference}@${DIGEST}`);
      expect(readFileSync(file, 'utf8').split('\n')).toEqual(['oci://others@sha256:0', ...lines, '']);
      const failures = [{ destination: TAG, error: { message: 'no' } }];
      runPart('outputs', { ...PUSHED, digests, failures }, { env: { GITHUB_ARTIFACTS: file } });
      expect(readFileSync(file, 'utf8').split('\n')).toHaveLength(4);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  it('what the post step saves is in the state, line breaks in paths and all', () => {
    const entry = { key: 'layer', file: 'layer', path: '/temp/with\na line break/layer', size: 12 };
    const savePlan = { version: 1 as const, workspace: '/temp/save', pointers: [], layers: [entry], dropped: [] };
    const { state } = runPart('outputs', { ...PUSHED, savePlan });
    expect(JSON.parse(state['save-plan'] ?? '')).toEqual(savePlan);
  });
});

describe('the summary', () => {
  it('has a table cell for whatever a registry says', () => {
    const error = 'PUT: 400 | <b>no|tags</b>\nhere';
    const { summary = '' } = runPart('outputs', {
      ...PUSHED,
      image: undefined,
      digest: undefined,
      metadata: withTags({ reference: TAG, error }),
      failures: [{ destination: TAG, error: { message: error } }],
    });
    expect(summary).toContain('\nNothing was pushed.\n');
    expect(summary).toContain(`| \`${TAG}\` | \`PUT: 400 \\| <b>no\\|tags</b> here\` |\n`);
  });

  it('has a row for each blob and ends with a line break', () => {
    const blob = {
      name: 'layer 1/1 aaaaaaaaaaaa',
      digest: digestOf('1'),
      size: 10_000_000,
      mediaType: 'application/vnd.oci.image.layer.v1.tar+gzip',
      registry: 'registry.example.com',
      what: 'uploaded' as const,
      fromCache: true,
      bytesSent: 10_000_000,
      bytesResent: 0,
      retries: 3,
      seconds: 2.5,
    };
    const { summary = '' } = runPart('outputs', { ...PUSHED, metadata: { ...PUSHED.metadata, blobs: [blob] } });
    expect(summary).toContain(
      '| `layer 1/1 aaaaaaaaaaaa` | 10&nbsp;MB | uploaded from the cache, 3 retries | 2.5&nbsp;s |\n',
    );
    expect(summary).toMatch(/\n$/);
  });

  it('comes after what is in the file', () => {
    const { summary } = runPart('outputs', PUSHED, { summary: '## Build\n\n42 tests passed\n' });
    expect(summary).toMatch(/^## Build\n\n42 tests passed\n### Chunked push\n/);
  });

  it('is left out where the runner has none', () => {
    const { outputs, summary, warnings } = runPart('outputs', PUSHED, {
      env: { GITHUB_STEP_SUMMARY: undefined },
      summary: null,
    });
    expect([outputs.digest, summary, warnings]).toEqual([DIGEST, undefined, []]);
  });

  it('that can not be written is a warning, and the outputs are there', () => {
    const { outputs, warnings, errors, exitCode } = runPart('outputs', PUSHED, {
      env: { GITHUB_STEP_SUMMARY: '/' },
      summary: null,
    });
    expect([outputs.digest, errors, exitCode]).toEqual([DIGEST, [], 0]);
    expect(warnings).toEqual([expect.stringMatching(/^The job summary could not be written: EISDIR/)]);
  });
});

describe('a failure', () => {
  const failed = (error: ToldError) => runPart('fail', error);

  it('is one error: step, words and remedy in the first line, the causes beneath', () => {
    const { errors, exitCode, outputs } = failed({
      step: 'Export',
      message: 'docker save ended with 1',
      remedy: 'look at the daemon’s log',
      causes: ['no space left on device\nsecond line', 'ENOSPC'],
    });
    expect(errors).toEqual([
      [
        'Export: docker save ended with 1: look at the daemon’s log',
        '  caused by: no space left on device',
        '  caused by: ENOSPC',
      ].join('\n'),
    ]);
    expect([exitCode, outputs]).toEqual([1, {}]);
  });

  it('names its step once', () => {
    expect(failed({ step: 'Export', message: 'Export: nothing came' }).errors).toEqual(['Export: nothing came']);
    expect(failed({ message: 'what nobody thought of' }).errors).toEqual(['Push: what nobody thought of']);
  });

  it('tells five causes at most', () => {
    const causes = Array.from({ length: 9 }, (_, number) => `cause ${number + 1}`);
    const [lines = []] = failed({ message: 'deep', causes }).errors.map((error) => error.split('\n'));
    expect(lines.slice(1)).toEqual(causes.slice(0, 5).map((cause) => `  caused by: ${cause}`));
  });

  it('a cancelled push has no causes: what broke while all was torn down is no news', () => {
    const { errors, exitCode } = failed({ message: '', cancelled: true, causes: ['socket hang up'] });
    expect([errors, exitCode]).toEqual([['Cancelled: the push was cancelled'], 1]);
  });

  it('does not end early at characters that mean something in a log', () => {
    const message = '100%: ::error::nested\r\n::add-mask::x';
    const { errors, masks } = failed({ step: 'Push', message });
    expect([errors, masks]).toEqual([[`Push: ${message.replace('\r', '')}`], []]);
  });
});

describe('a failure of some destinations', () => {
  const failures = [
    { destination: 'a.example/x', error: { step: 'Push', message: 'a limit', remedy: 'set chunk-size' } },
    { destination: 'b.example/y:1', error: { message: 'no such thing' } },
  ];
  const lines = ['a.example/x: Push: a limit: set chunk-size', 'b.example/y:1: Push: no such thing'];

  it('names each, and says that the others are done', () => {
    const { errors, exitCode } = runPart('failPartly', { ...PUSHED, failures });
    expect(errors).toEqual([[...lines, 'The other destinations were pushed: see the metadata output'].join('\n')]);
    expect(exitCode).toBe(1);
  });

  it('says no such thing when none is', () => {
    const { errors } = runPart('failPartly', {
      ...PUSHED,
      failures,
      metadata: withTags({ reference: TAG, error: 'a limit' }),
    });
    expect(errors).toEqual([lines.join('\n')]);
  });
});
