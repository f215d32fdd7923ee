/**
 * The user of a GitHub-hosted runner: Docker's socket and passwordless sudo, and no right to the store's files. All that the
 * engine has of an image comes out of its store by one helper; a registry is asked only what it has itself.
 */
import { chmodSync, existsSync, readFileSync, writeFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { afterAll, beforeAll, beforeEach, expect, it } from 'vitest';
import { type HostedUser, hostedUser } from '../support/real/hosted-user.ts';
import { commandOf } from '../support/real/parts.ts';
import { privateFolder, removeFolder } from '../support/real/processes.ts';
import { pullBack } from '../support/real/pull.ts';
import { describeWith } from '../support/real/suite.ts';
import { type Registry, startRegistry } from '../support/registry/server.ts';
import { runAction } from '../support/runner.ts';
import { STORES, type StoreEngine } from './store-engines.ts';

const IMAGE = 'e2e.example/hosted/app:1';
const RECIPE = { seed: 'hosted', layers: [{ bytes: 300_000, files: 3 }, { bytes: 200_000 }, { bytes: 100_000 }] };
const NOTICE = /A read-only helper under sudo reads the engine's files below /g;

for (const kind of STORES.filter(({ tool }) => tool === 'docker')) {
  describeWith([kind.part, 'sudo', 'skopeo'], `the user of a hosted runner with ${kind.name}`, () => {
    let engine: StoreEngine;
    let registry: Registry;
    let user: HostedUser;
    /** Has a `sudo` that counts its calls before it becomes the real one. */
    let folder: string;
    const calls = () => join(folder, 'calls');

    beforeAll(async () => {
      [engine, registry] = await Promise.all([kind.start(IMAGE, RECIPE), startRegistry()]);
      user = await hostedUser({ docker: { host: engine.env.DOCKER_HOST!, env: { PATH: engine.env.PATH! } } });
      folder = privateFolder('counted-sudo');
      chmodSync(folder, 0o777);
      const script = `#!/bin/sh\necho "$$" >> '${calls()}'\nexec '${commandOf('sudo', 'sudo')}' "$@"\n`;
      writeFileSync(join(folder, 'sudo'), script, { mode: 0o755 });
    }, 300_000);

    beforeEach(() => {
      writeFileSync(calls(), '');
      chmodSync(calls(), 0o666);
      registry.requests.length = 0;
    });

    afterAll(async () => {
      user?.remove();
      if (folder && existsSync(folder)) removeFolder(folder);
      await Promise.all([engine?.stop(), registry?.close()]);
    });

    const push = async (tags: string, inputs: Readonly<Record<string, string>> = {}) => {
      const run = await runAction({
        user,
        inputs: { image: IMAGE, tags, cache: 'false', engine: 'docker', ...inputs },
        env: {
          RUNNER_ENVIRONMENT: 'github-hosted',
          PATH: `${folder}${delimiter}${user.env.PATH}`,
        },
      });
      expect(run.errors).toEqual([]);
      expect(run.exitCode).toBe(0);
      return run;
    };

    /** GET requests for a document by its digest. */
    const fetched = () =>
      registry.requests
        .filter(({ method, path }) => method === 'GET' && /\/(manifests|blobs)\/sha256:/.test(path))
        .map(({ path }) => path);
    const helpers = () => readFileSync(calls(), 'utf8').trim().split('\n').filter(Boolean).length;

    it.each(['cold', 'unchanged', 'another-tag'])(
      'asks the registry for nothing that the engine has: %s',
      async (name) => {
        const tags = `${registry.host}/hosted/app:${name === 'another-tag' ? 2 : 1}`;
        const run = await push(tags);
        expect(fetched()).toEqual([]);
        expect(helpers()).toBe(1);
        expect(run.visible.match(NOTICE)).toHaveLength(1);
        const pulled = await pullBack(tags);
        expect([pulled.diffIds, kind.keepsManifests ? pulled.digest : pulled.configDigest]).toEqual([
          engine.diffIds,
          engine.imageId,
        ]);
      },
    );

    it('neither does a dry run, which ends its helper', async () => {
      const run = await push(`${registry.host}/hosted/dry:1`, { 'dry-run': 'true' });
      expect(fetched()).toEqual([]);
      expect(helpers()).toBe(1);
      expect(run.visible.match(NOTICE)).toHaveLength(1);
    });

    it('starts no helper with export: save', async () => {
      await push(`${registry.host}/hosted/save:1`, { export: 'save' });
      expect(helpers()).toBe(0);
    });
  });
}
