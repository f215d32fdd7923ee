/** Hostile texts by every way into a push, and what the runner would do with the log: nothing but what we tell it. */
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { digestOf, MediaType } from '../../src/oci/types.ts';
import { HOSTILE_TEXTS } from '../support/hostile-text.ts';
import { LayoutFolder, tarOf } from '../support/layout.ts';
import { answer } from '../support/registry/answer.ts';
import type { Quirk } from '../support/registry/quirk.ts';
import { warns } from '../support/registry/quirks/hostile.ts';
import { startRegistry } from '../support/registry/server.ts';
import type { Step } from '../support/registry/steps.ts';
import { type ActionRun, freshRunner, runAction } from '../support/runner.ts';
import { runnerCommands } from '../support/runner-files.ts';

const texts = Object.values(HOSTILE_TEXTS);

/** What may stand in a header or in the name of a file. */
const plainTexts = texts.filter((text) => /^[\x20-\x7e]+$/.test(text) && !/["/\\]/.test(text));

let folder: string;
let image: string;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'chunked-push-hostile-'));
  // Names, annotations and history of the image.
  const layout = new LayoutFolder(join(folder, plainTexts[0]!));
  const tars = await Promise.all(texts.map((_, at) => tarOf(`file${at}`, 1000 + at)));
  const layers = tars.map((tar, at) =>
    layout.blob(gzipSync(tar), MediaType.ociLayerGzip, { annotations: { [`a${at}`]: texts[at]! } }),
  );
  const config = layout.blob(
    Buffer.from(
      JSON.stringify({
        architecture: 'amd64',
        os: 'linux',
        rootfs: { type: 'layers', diff_ids: tars.map((tar) => digestOf(tar)) },
        history: texts.map((text) => ({ created_by: text, comment: text })),
      }),
    ),
    MediaType.ociConfig,
  );
  const annotations = Object.fromEntries(texts.map((text, at) => [`a${at}`, text]));
  layout.close(layout.document(MediaType.ociManifest, { config, layers, annotations }));
  image = `oci:${layout.path}`;
});

afterAll(() => rmSync(folder, { recursive: true }));

/** Answers that are waited out: an error document, a page, plain text, the worst texts in them. */
const BODIES = [
  JSON.stringify({ errors: [{ code: texts[0], message: texts[1], detail: texts[2] }] }),
  `<html><title>${texts[3]}</title></html>`,
  `${HOSTILE_TEXTS['stops it after a carriage return']} ${HOSTILE_TEXTS['hides ## behind a soft hyphen']}`,
];

/** The first requests of a step get each of them once. */
const refusesFirst = (step: Step): Quirk => {
  const left = [...BODIES];
  return {
    name: `hostile answers to ${step}`,
    before: ({ route }) => {
      const body = route.step === step ? left.shift() : undefined;
      return body === undefined
        ? undefined
        : { ...answer(503, { 'Content-Type': 'application/json', 'Retry-After': '0' }), body };
    },
  };
};

/** Only commands that the action itself gives, and groups that begin and end in turn. */
function expectOurs(run: ActionRun, masks: readonly string[] = []): void {
  const commands = runnerCommands(run.log);
  expect(commands.filter(({ syntax }) => syntax === '##[')).toEqual([]);
  const ours = ['add-mask', 'debug', 'endgroup', 'error', 'group', 'notice', 'warning'];
  expect([...new Set(commands.map(({ name }) => name))].filter((name) => !ours.includes(name))).toEqual([]);
  expect(run.masks.filter((mask) => !masks.includes(mask))).toEqual([]);
  expect(run.groups.filter((name) => !['Resolve', 'Export', 'Upload', 'Manifest'].includes(name))).toEqual([]);
  expect(commands.filter(({ name }) => name === 'endgroup')).toHaveLength(run.groups.length);
  expect(Object.keys(run.state).filter((name) => name !== 'save-plan')).toEqual([]);
  expect(/[\x00-\x09\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\p{Cf}]/u.exec(run.log)?.[0]).toBeUndefined();
}

it('answers, warnings, names, annotations and history of a push that succeeds', async () => {
  const quirks = [refusesFirst('upload-post'), ...plainTexts.map((text) => warns(text))];
  const registry = await startRegistry({ quirks });
  try {
    const tags = `${registry.host}/team/app:1`;
    const run = await runAction({ inputs: { image, tags, cache: 'false' } });
    expect(run.exitCode, run.log).toBe(0);
    expectOurs(run);
    expect(run.log.match(/try \d failed/g)).toHaveLength(BODIES.length);
    const blocks = run.summary.replace(/^```\n[\s\S]*?^```$/gm, '').replace(/(?<!`)(`+)(?!`).+?(?<!`)\1(?!`)/g, '');
    expect(blocks).not.toMatch(/evil|octocat|<img|::|##\[/);
  } finally {
    await registry.close();
  }
});

it('the answer that ends a push', async () => {
  for (const text of [texts.join(' '), texts.join('\n')]) {
    const body = JSON.stringify({ errors: [{ code: 'DENIED', message: text }] });
    const refusal: Quirk = {
      name: 'refuses manifests',
      before: ({ route }) =>
        route.step === 'manifest-put' ? { ...answer(400, { 'Content-Type': 'application/json' }), body } : undefined,
    };
    const registry = await startRegistry({ quirks: [refusal] });
    try {
      const run = await runAction({ inputs: { image, tags: `${registry.host}/team/app:1`, cache: 'false' } });
      expect(run.exitCode).toBe(1);
      expect(run.errors).toHaveLength(1);
      expectOurs(run);
    } finally {
      await registry.close();
    }
  }
});

it('what engines and credential helpers print', async () => {
  const registry = await startRegistry();
  const runner = freshRunner();
  try {
    const bin = join(folder, 'bin');
    mkdirSync(bin);
    writeFileSync(join(bin, 'words'), texts.join('\n'));
    for (const name of ['docker', 'podman', 'docker-credential-evil']) {
      writeFileSync(join(bin, name), `#!/bin/sh\ncat ${bin}/words; cat ${bin}/words >&2; exit 1\n`);
      chmodSync(join(bin, name), 0o755);
    }
    mkdirSync(join(runner.home, '.docker'));
    const credHelpers = { [registry.host]: 'evil' };
    writeFileSync(join(runner.home, '.docker/config.json'), JSON.stringify({ credHelpers }));
    const env = { PATH: `${bin}:${process.env.PATH}`, DOCKER_HOST: `unix://${folder}/no.sock`, RUNNER_DEBUG: '1' };
    for (const name of ['no/such:image', image]) {
      const tags = `${registry.host}/team/app:2`;
      const run = await runAction({ inputs: { image: name, tags, cache: 'false', fallback: 'engine' }, env, runner });
      expectOurs(run);
    }
  } finally {
    runner.remove();
    await registry.close();
  }
});
