/** Legs of real engines, merged into one index, and pulled on each platform by clients that are not ours. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { type Descriptor, digestOf, type Index, type Manifest, MediaType } from '../../src/oci/types.ts';
import { buildImage } from '../support/images.ts';
import { LayoutFolder, tarOf } from '../support/layout.ts';
import { type DockerAddress, docker } from '../support/real/docker.ts';
import { commandOf } from '../support/real/parts.ts';
import { type Podman, startPodman } from '../support/real/podman.ts';
import { run } from '../support/real/processes.ts';
import { type DockerRegistry, startDockerRegistry } from '../support/real/registry.ts';
import { describeWith, sharedDocker } from '../support/real/suite.ts';
import { hangUp } from '../support/registry/answer.ts';
import type { Quirk } from '../support/registry/quirk.ts';
import { startRegistry } from '../support/registry/server.ts';
import { type ActionRun, runAction } from '../support/runner.ts';
import { runCommand } from '../support/terminal.ts';

it('a merge that was killed between two tags is completed by the next one', async () => {
  let kill: (() => void) | undefined;
  const kills: Quirk = {
    name: 'kills the sender of the second tag',
    before: ({ method, path }) => {
      if (method !== 'PUT' || !path.endsWith('/manifests/latest') || !kill) return undefined;
      kill();
      return hangUp;
    },
  };
  const registry = await startRegistry({ quirks: [kills] });
  const folder = mkdtempSync(join(tmpdir(), 'chunked-push-merge-'));
  try {
    const app = `${registry.host}/team/app`;
    for (const architecture of ['amd64', 'arm64']) {
      const layout = new LayoutFolder(join(folder, architecture));
      layout.close(await layout.image(architecture, { bytes: 1000 }));
      const { errors } = await runAction({
        inputs: { image: `oci:${layout.path}`, tags: `${app}:part-${architecture}` },
      });
      expect(errors).toEqual([]);
    }
    const inputs = { merge: `${app}:part-*`, tags: `${app}:1\n${app}:latest` };
    const killed = await runAction({
      inputs,
      onOutput: (_, signal) => {
        kill = () => signal('SIGKILL');
      },
    });
    kill = undefined;
    expect(killed).toMatchObject({ signal: 'SIGKILL', outputs: {} });
    expect(registry.tags('team/app').sort()).toEqual(['1', 'part-amd64', 'part-arm64']);
    const again = await runAction({ inputs });
    expect(again.errors).toEqual([]);
    expect(again.outputs).toMatchObject({ digest: registry.manifest('team/app', '1')?.digest, changed: 'true' });
    expect(registry.manifest('team/app', 'latest')?.digest).toBe(again.outputs.digest);
  } finally {
    await registry.close();
    rmSync(folder, { recursive: true });
  }
});

describeWith(['docker', 'docker-trixie', 'podman', 'docker-registry', 'skopeo'], 'a merge of real legs', () => {
  let folder: string;
  let registry: DockerRegistry;
  let classic: DockerAddress;
  let containerd: DockerAddress;
  let podman: Podman;
  let app: string;
  /** s390x and its attestation. */
  let attested: readonly Descriptor[];

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'chunked-push-merge-'));
    [registry, classic, containerd, podman] = await Promise.all([
      startDockerRegistry(),
      sharedDocker({ version: 'debian', store: 'overlay2' }),
      sharedDocker({ version: 'trixie', store: 'containerd' }),
      startPodman(),
    ]);
    app = `${registry.host}/team/app`;
    const client = { command: commandOf('docker', 'docker'), env: classic.env };
    await buildImage(client, `${app}:part-7-amd64`, { seed: 'leg', layers: [{ bytes: 30_000 }, { bytes: 500 }] });
    writeFileSync(join(folder, 'rootfs.tar'), await tarOf('arm64/data', 20_000));
    const imported = ['import', '--os', 'linux', '--arch', 'arm64', join(folder, 'rootfs.tar'), `${app}:part-7-arm64`];
    await podman.run(...imported);
    const layout = new LayoutFolder(join(folder, 'layout'));
    const image = await layout.image('s390x');
    attested = [image, layout.attestation(image)];
    layout.close(layout.document(MediaType.ociIndex, { manifests: attested }));
    await push({ image: `${app}:part-7-amd64` }, classic.env);
    await push({ image: `${app}:part-7-arm64`, engine: 'podman' }, podman.env);
    // Docker before version 23 gives what it imports the platform of its host.
    const leg = ['import', '--platform', 'linux/ppc64le', join(folder, 'rootfs.tar'), `${app}:part-7-ppc64le`];
    await docker(containerd, ...leg);
    await push({ image: `${app}:part-7-ppc64le` }, containerd.env);
    await push({ image: `oci:${layout.path}`, tags: `${registry.host}/legs/s390x:part-7` });
  }, 240_000);

  afterAll(async () => {
    for (const engine of [classic, containerd].filter(Boolean)) {
      const names = (await docker(engine, 'image', 'ls', '--format', '{{.Repository}}:{{.Tag}}', app)).split('\n');
      for (const name of names.filter((one) => one !== '')) await docker(engine, 'image', 'rm', '--force', name);
    }
    await Promise.all([podman?.stop(), registry?.stop()]);
    rmSync(folder, { recursive: true });
  });

  const push = async (inputs: Readonly<Record<string, string>>, env: Readonly<Record<string, string>> = {}) => {
    const result = await runAction({ inputs: { cache: 'false', ...inputs }, env });
    expect(result.errors).toEqual([]);
    return result;
  };
  const merge = (inputs: Readonly<Record<string, string>>, env: Readonly<Record<string, string>> = {}) =>
    runAction({
      inputs: {
        merge: `${app}:part-7-*\n${registry.host}/legs/s390x:part-7`,
        platforms: 'linux/amd64,linux/arm64',
        ...inputs,
      },
      env,
    });
  const skopeo = (...args: readonly string[]) =>
    run(commandOf('skopeo', 'skopeo'), args, { env: { PATH: process.env.PATH, HOME: folder } });
  const raw = (reference: string) => skopeo('inspect', '--raw', '--tls-verify=false', `docker://${reference}`);
  const tags = async (repository: string) =>
    (
      JSON.parse(await skopeo('list-tags', '--tls-verify=false', `docker://${repository}`)) as { Tags: string[] }
    ).Tags.sort();

  let merged: ActionRun;

  it('becomes one index under every tag, attestations byte for byte', async () => {
    const artifacts = join(folder, 'artifacts');
    writeFileSync(artifacts, '');
    merged = await merge({ tags: `${app}:1.2\n${app}:latest` }, { GITHUB_ARTIFACTS: artifacts });
    expect(merged.errors).toEqual([]);
    const { digest } = merged.outputs;
    const index = JSON.parse(await raw(`${app}:1.2`)) as Index;
    expect(digestOf(Buffer.from(await raw(`${app}:latest`)))).toBe(digest);
    expect(index.manifests.map(({ platform }) => platform?.architecture)).toEqual([
      'amd64',
      'arm64',
      'ppc64le',
      's390x',
      'unknown',
    ]);
    expect(index.manifests.slice(3)).toEqual(attested);
    expect(merged.outputs).toMatchObject({ image: `${app}@${digest}`, changed: 'true' });
    expect(JSON.parse(merged.outputs.digests!)).toEqual({ [`${app}:1.2`]: digest, [`${app}:latest`]: digest });
    const lines = ['1.2', 'latest'].map((tag) => `oci://${app}:${tag}@${digest}\n`);
    expect(readFileSync(artifacts, 'utf8')).toBe(lines.join(''));
  });

  it('is pulled on each platform by skopeo and by Docker', async () => {
    for (const architecture of ['amd64', 'arm64', 'ppc64le', 's390x']) {
      const target = join(folder, architecture);
      const from = ['--override-arch', architecture, 'copy', '--src-tls-verify=false', `docker://${app}:1.2`];
      await skopeo('--insecure-policy', ...from, `oci:${target}:1`);
      const config = JSON.parse(await skopeo('inspect', '--config', `oci:${target}:1`)) as { architecture: string };
      expect(config.architecture).toBe(architecture);
    }
    await skopeo(
      '--insecure-policy',
      'copy',
      '--all',
      '--src-tls-verify=false',
      `docker://${app}:latest`,
      `dir:${folder}/all`,
    );
    for (const engine of [classic, containerd]) {
      for (const architecture of ['amd64', 'arm64']) {
        await docker(engine, 'pull', '--platform', `linux/${architecture}`, `${app}:latest`);
        if (engine === containerd) continue;
        const [id] = (await docker(engine, 'image', 'inspect', '--format', '{{.Architecture}}', `${app}:latest`)).split(
          '\n',
        );
        expect(id).toBe(architecture);
      }
    }
  });

  it('is the same index again, from the action and from the terminal', async () => {
    const again = await merge({ tags: `${app}:1.2` });
    expect(again.outputs).toMatchObject({ digest: merged.outputs.digest, changed: 'false' });
    const parts = [
      `${registry.host}/legs/s390x:part-7`,
      ...['arm64', 'amd64', 'ppc64le'].map((one) => `${app}:part-7-${one}`),
    ];
    const command = await runCommand(['--merge', ...parts, '--to', `${app}:terminal`], { env: { HOME: folder } });
    expect(command).toMatchObject({ exitCode: 0, stdout: `${app}@${merged.outputs.digest}\n` });
    expect(digestOf(Buffer.from(await raw(`${app}:terminal`)))).toBe(merged.outputs.digest);
  });

  it('is made of digests that no tag names, and that jobs hand on', async () => {
    const repository = `${registry.host}/digests/app`;
    const artifacts = join(folder, 'digests');
    writeFileSync(artifacts, '');
    const legs: ActionRun[] = [];
    for (const [image, env] of [
      [`${app}:part-7-amd64`, classic.env],
      [`${app}:part-7-arm64`, podman.env],
    ] as const) {
      const inputs = {
        image,
        tags: `${repository}:ignored`,
        'push-by-digest': 'true',
        annotations: 'org.example/leg=yes',
      };
      legs.push(
        await push(
          { ...inputs, engine: env === classic.env ? 'docker' : 'podman' },
          { ...env, GITHUB_ARTIFACTS: artifacts },
        ),
      );
    }
    for (const { outputs, notices } of legs) {
      expect(outputs).toMatchObject({ image: `${repository}@${outputs.digest}`, changed: 'false' });
      expect(JSON.parse(outputs.digests!)).toEqual({ [repository]: outputs.digest });
      expect(notices.join()).toContain(`push-by-digest: no tag is written; ignored: ${repository}:ignored`);
      expect((JSON.parse(await raw(outputs.image!)) as Manifest).annotations).toEqual({ 'org.example/leg': 'yes' });
    }
    expect(readFileSync(artifacts, 'utf8')).toBe(legs.map(({ outputs }) => `oci://${outputs.image}\n`).join(''));
    const list = await (await fetch(`http://${registry.host}/v2/digests/app/tags/list`)).json();
    expect((list as { tags?: string[] | null }).tags ?? []).toEqual([]);
    const result = await merge({ merge: legs.map(({ outputs }) => outputs.image).join('\n'), tags: `${repository}:1` });
    expect(result.errors).toEqual([]);
    const { manifests } = JSON.parse(await raw(`${repository}:1`)) as Index;
    expect(manifests.map(({ digest }) => digest)).toEqual(legs.map(({ outputs }) => outputs.digest));
  });

  it('has no annotations on manifests that an engine keeps byte for byte', async () => {
    const inputs = { image: `${app}:part-7-ppc64le`, tags: `${app}:annotated`, annotations: 'a=b' };
    const { errors } = await runAction({ inputs, env: containerd.env });
    expect(errors[0]).toMatch(
      /^Input: annotations: the image has a manifest of its own, which is pushed byte for byte: set /,
    );
    expect(await tags(app)).not.toContain('annotated');
  });

  it('moves no tag when a leg is missing', async () => {
    const before = await tags(app);
    const result = await merge({ tags: `${app}:1.2\n${app}:new`, platforms: 'linux/amd64,linux/riscv64' });
    expect(result.exitCode).toBe(1);
    expect(result.errors[0]).toMatch(
      /^Merge: no part has linux\/riscv64, only linux\/amd64, linux\/arm64, linux\/ppc64le, linux\/s390x; no tag/,
    );
    expect(result.outputs.digest).toBeUndefined();
    expect(await tags(app)).toEqual(before);
    expect(digestOf(Buffer.from(await raw(`${app}:1.2`)))).toBe(merged.outputs.digest);
  });

  it('keeps the tags of the legs where the registry deletes none, with a notice', async () => {
    const result = await merge({ tags: `${app}:1.2`, 'merge-cleanup': 'true' });
    expect(result.errors).toEqual([]);
    const notice = `merge-cleanup: ${app} keeps part-7-amd64, part-7-arm64, part-7-ppc64le: this registry deletes no tags`;
    expect(result.notices.join('\n')).toContain(notice);
    expect(await tags(app)).toEqual(expect.arrayContaining(['part-7-amd64', 'part-7-arm64']));
  });
});
