/**
 * Manifest lists in Podman's storage. `podman manifest push --all` sends all images of a list, `podman push` of a list only the
 * one of the machine's platform: podman#13676, podman#22814.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { Index } from '../../src/oci/types.ts';
import { refuseOurUploads } from '../support/fault-proxy/faults.ts';
import { startFaultProxy } from '../support/fault-proxy/proxy.ts';
import { commandOf } from '../support/real/parts.ts';
import { type Podman, startPodman } from '../support/real/podman.ts';
import { privateFolder, removeFolder, run } from '../support/real/processes.ts';
import { type DockerRegistry, startDockerRegistry } from '../support/real/registry.ts';
import { describeWith } from '../support/real/suite.ts';
import { runAction } from '../support/runner.ts';

/** The machine's own platform is not the first, and one list has it not at all. */
const PLATFORMS = ['arm64', 'amd64', 's390x'] as const;
const LIST = 'localhost/team/multi:1';
const FOREIGN = 'localhost/team/foreign:1';

for (const driver of ['overlay', 'vfs'] as const) {
  describeWith(['podman', 'docker-registry', 'skopeo'], `a manifest list in Podman's ${driver} storage`, () => {
    let podman: Podman;
    let registry: DockerRegistry;
    let folder: string;
    const skopeo = (...args: readonly string[]) =>
      run(commandOf('skopeo', 'skopeo'), args, { env: { PATH: process.env.PATH, HOME: folder } });

    beforeAll(async () => {
      [podman, registry] = await Promise.all([startPodman({ driver }), startDockerRegistry()]);
      folder = privateFolder('list');
      writeFileSync(join(folder, 'shared'), 'the same layer in all of them'.repeat(1000));
      for (const architecture of PLATFORMS) {
        const context = join(folder, architecture);
        mkdirSync(context);
        writeFileSync(join(context, 'own'), architecture.repeat(1000));
        writeFileSync(join(context, 'shared'), 'the same layer in all of them'.repeat(1000));
        writeFileSync(join(context, 'Containerfile'), 'FROM scratch\nCOPY shared /\nCOPY own /\n');
        const build = ['build', '--quiet', '--layers', '--timestamp', '0', '--arch', architecture];
        await podman.run(...build, '--manifest', LIST, context);
        if (architecture !== 'amd64') await podman.run(...build, '--manifest', FOREIGN, context);
      }
      await podman.run('manifest', 'annotate', '--annotation', 'team=shop', LIST, await instance('s390x'));
    }, 180_000);

    afterAll(async () => {
      if (folder) removeFolder(folder);
      await Promise.all([registry?.stop(), podman?.stop()]);
    });

    /** The digest by which the list names the image of an architecture. */
    const instance = async (architecture: string): Promise<string> => {
      const { manifests } = JSON.parse(await podman.run('manifest', 'inspect', LIST)) as Index;
      return manifests.find(({ platform }) => platform?.architecture === architecture)!.digest;
    };

    const push = (tags: string, inputs: Readonly<Record<string, string>> = {}) =>
      runAction({ inputs: { image: LIST, tags, engine: 'podman', cache: 'false', ...inputs }, env: podman.env });

    /** The index in the registry, once skopeo has copied all of it and checked each blob. */
    const pulled = async (reference: string): Promise<Index> => {
      const source = `docker://${reference}`;
      const copy = ['--insecure-policy', 'copy', '--all', '--src-tls-verify=false', source];
      await skopeo(...copy, `dir:${join(folder, reference.replaceAll(/\W/g, '-'))}`);
      return JSON.parse(await skopeo('inspect', '--raw', '--tls-verify=false', source));
    };

    const architectures = ({ manifests }: Index) => manifests.map(({ platform }) => platform?.architecture);

    it.each(['auto', 'save'])('gives all its platforms with export: %s', async (way) => {
      const reference = `${registry.host}/team/multi:${way}`;
      const result = await push(reference, { export: way });
      expect(result.errors).toEqual([]);
      expect(result.warnings).toEqual([]);
      const index = await pulled(reference);
      expect(architectures(index)).toEqual([...PLATFORMS]);
      expect(index.manifests.find(({ annotations }) => annotations?.team === 'shop')?.platform?.architecture).toBe(
        's390x',
      );
      for (const { digest, platform } of index.manifests) {
        const repository = reference.replace(/:[^:]*$/, '');
        const inspect = ['inspect', '--tls-verify=false', '--config', '--raw', `docker://${repository}@${digest}`];
        const config = JSON.parse(await skopeo(...inspect));
        expect(config.architecture).toBe(platform?.architecture);
        expect(config.rootfs.diff_ids).toHaveLength(2);
      }
    });

    it('has one digest, whichever way its layers left the storage', async () => {
      const digests = [];
      for (const way of ['auto', 'save']) {
        const result = await push(`${registry.host}/team/same:${way}`, { export: way });
        digests.push(result.outputs.digest);
      }
      expect(digests[0]).toBe(digests[1]);
    });

    it('gives the platforms that are chosen, also those of another machine', async () => {
      const one = `${registry.host}/team/chosen:one`;
      expect((await push(one, { platforms: 'linux/arm64' })).errors).toEqual([]);
      const config = await skopeo('inspect', '--tls-verify=false', '--config', '--raw', `docker://${one}`);
      expect(JSON.parse(config).architecture).toBe('arm64');
      const two = `${registry.host}/team/chosen:two`;
      expect((await push(two, { platforms: 'linux/arm64, linux/s390x' })).errors).toEqual([]);
      expect(architectures(await pulled(two))).toEqual(['arm64', 's390x']);
      const none = await push(`${registry.host}/team/chosen:none`, { platforms: 'linux/riscv64' });
      expect(none.exitCode).toBe(1);
      expect(none.errors.join()).toContain('choose platforms among linux/arm64, linux/amd64, linux/s390x');
    });

    it('is found by a docker command that runs Podman, as that of podman-docker', async () => {
      const bin = join(folder, 'bin');
      mkdirSync(bin);
      const script = `#!/bin/sh\nexec '${commandOf('podman', 'podman')}' "$@"\n`;
      writeFileSync(join(bin, 'docker'), script, { mode: 0o755 });
      const env = { ...podman.env, PATH: `${bin}${delimiter}${podman.env.PATH}` };
      const reference = `${registry.host}/team/docker:1`;
      const result = await runAction({ inputs: { image: LIST, tags: reference, cache: 'false' }, env });
      expect(result.errors).toEqual([]);
      expect(result.log).toContain('in docker');
      expect(architectures(await pulled(reference))).toEqual([...PLATFORMS]);
    });

    it('needs no image of this machine', async () => {
      const reference = `${registry.host}/team/foreign:1`;
      const result = await push(reference, { image: 'team/foreign:1' });
      expect(result.errors).toEqual([]);
      expect(architectures(await pulled(reference))).toEqual(['arm64', 's390x']);
    });

    it('leaves out what was added from a registry and never pulled, and says so', async () => {
      const remote = `${registry.host}/team/remote:1`;
      expect((await push(remote, { platforms: 'linux/arm64' })).errors).toEqual([]);
      const list = 'localhost/team/partial:1';
      await podman.run('manifest', 'create', list);
      await podman.run('manifest', 'add', list, `containers-storage:${await idOf('amd64')}`);
      await podman.run('manifest', 'add', '--tls-verify=false', list, `docker://${remote}`);
      const reference = `${registry.host}/team/partial:1`;
      const result = await push(reference, { image: list });
      expect(result.errors).toEqual([]);
      expect(result.warnings.join()).toContain('only linux/amd64 is pushed');
    });

    const idOf = async (architecture: string): Promise<string> => {
      const digest = await instance(architecture);
      const rows = JSON.parse(await podman.run('images', '--all', '--no-trunc', '--format', 'json'));
      return rows.find((row: { Digest: string }) => row.Digest === digest).Id;
    };
  });
}

describeWith(['podman', 'docker-registry', 'skopeo'], "Podman's own push of a manifest list", () => {
  it('sends all platforms as the fallback', async () => {
    const podman = await startPodman();
    const registry = await startDockerRegistry();
    const proxy = await startFaultProxy({ target: registry.host });
    proxy.faults.add(refuseOurUploads);
    const folder = privateFolder('fallback-list');
    try {
      for (const architecture of PLATFORMS) {
        writeFileSync(join(folder, 'own'), architecture);
        writeFileSync(join(folder, 'Containerfile'), 'FROM scratch\nCOPY own /\n');
        await podman.run('build', '--quiet', '--arch', architecture, '--manifest', LIST, folder);
      }
      const inputs = { image: LIST, tags: `${proxy.host}/team/fallback:1`, engine: 'podman', fallback: 'engine' };
      const result = await runAction({ inputs: { ...inputs, 'max-retries': '1' }, env: podman.env });
      expect(result.errors).toEqual([]);
      const reference = `docker://${registry.host}/team/fallback:1`;
      const raw = await run(commandOf('skopeo', 'skopeo'), ['inspect', '--raw', '--tls-verify=false', reference]);
      expect((JSON.parse(raw) as Index).manifests).toHaveLength(PLATFORMS.length);
    } finally {
      removeFolder(folder);
      await Promise.all([podman.stop(), registry.stop(), proxy.close()]);
    }
  });
});
