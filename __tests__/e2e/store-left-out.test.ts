/**
 * `docker save` of the containerd image store may leave out a layer that its own manifest names
 * (https://github.com/moby/moby/issues/49473): the registry is asked for it before the push gives up.
 */
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, delimiter, join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { pullBack } from '../support/real/pull.ts';
import { describeWith } from '../support/real/suite.ts';
import { type Registry, startRegistry } from '../support/registry/server.ts';
import { runAction } from '../support/runner.ts';
import { metadataOf } from './results.ts';
import { STORES, type StoreEngine } from './store-engines.ts';

const BASE = 'e2e.example/left-out/base:1';
const IMAGE = 'e2e.example/left-out/app:1';
const RECIPE = { seed: 'left out', layers: [{ bytes: 200_000 }, { bytes: 300_000, content: 'random' as const }] };

describeWith(['docker-trixie', 'skopeo'], 'a docker save that leaves out a layer', () => {
  const kind = STORES.find(({ keepsManifests }) => keepsManifests)!;
  let engine: StoreEngine;
  let registry: Registry;
  let folder: string;
  /** The digest of the layer that is left out, and the image's manifest or index. */
  let digest: string;
  let root: string;

  beforeAll(async () => {
    [engine, registry] = await Promise.all([kind.start(BASE, RECIPE), startRegistry()]);
    folder = mkdtempSync(join(tmpdir(), 'chunked-push-left-out-'));
    digest = `sha256:${basename((await engine.filesOf(BASE)).content)}`;
    writeFileSync(join(folder, 'Dockerfile'), `FROM ${BASE}\nCOPY Dockerfile /\n`);
    await engine.run('build', '--quiet', '--tag', IMAGE, folder);
    root = (await engine.run('image', 'inspect', '--format', '{{.Id}}', IMAGE)).trim();
    mkdirSync(join(folder, 'bin'));
    const shim = join(folder, 'bin', 'docker');
    const name = `blobs/sha256/${basename(digest.replace(':', '/'))}`;
    writeFileSync(
      shim,
      `#!/bin/sh\n[ "$1" = save ] || exec '${engine.command}' "$@"\n'${engine.command}' "$@" | tar --delete -f - '${name}'\n`,
    );
    chmodSync(shim, 0o755);
  }, 300_000);

  afterAll(async () => {
    await engine?.run('image', 'rm', '--force', IMAGE);
    await Promise.all([engine?.stop(), registry?.close()]);
    rmSync(folder, { recursive: true, force: true });
  });

  const push = (tags: string, inputs: Readonly<Record<string, string>> = {}) =>
    runAction({
      inputs: { image: IMAGE, tags, export: 'save', cache: 'false', ...inputs },
      env: { ...engine.env, PATH: [join(folder, 'bin'), engine.env.PATH].join(delimiter) },
    });

  it('ends with its name and the remedy when the registry lacks it too, and commits nothing', async () => {
    const run = await push(`${registry.host}/left/nowhere:1`);
    expect(run.exitCode).toBe(1);
    expect(run.errors).toEqual([expect.stringContaining(digest)]);
    expect(run.errors[0]).toContain('neither the export nor the registry has');
    expect(run.errors[0]).toContain('pull or build the image again');
    expect(run.outputs).not.toHaveProperty('digest');
    expect([registry.tags('left/nowhere'), registry.openSessions()]).toEqual([[], 0]);
  });

  it('takes the layer that the repository has', async () => {
    const other = await runAction({
      inputs: { image: BASE, tags: `${registry.host}/left/here:base`, cache: 'false' },
      env: engine.env,
    });
    expect(other.exitCode).toBe(0);
    const tags = `${registry.host}/left/here:1`;
    const run = await push(tags);
    expect(run.errors).toEqual([]);
    expect((await pullBack(tags)).digest).toBe(root);
    expect(metadataOf(run).blobs.find((blob) => blob.digest === digest)).toMatchObject({
      what: 'exists',
      bytesSent: 0,
    });
  });

  it('mounts the layer from a repository that has it', async () => {
    const from = `${registry.host}/left/base:1`;
    const other = await runAction({ inputs: { image: BASE, tags: from, cache: 'false' }, env: engine.env });
    expect(other.exitCode).toBe(0);
    const tags = `${registry.host}/left/mounted:1`;
    const run = await push(tags, { 'cache-from': from });
    expect(run.errors).toEqual([]);
    expect((await pullBack(tags)).digest).toBe(root);
    expect(metadataOf(run).blobs.find((blob) => blob.digest === digest)).toMatchObject({
      what: 'mounted',
      bytesSent: 0,
    });
  });
});
