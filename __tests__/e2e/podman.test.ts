import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { buildImage } from '../support/images.ts';
import { docker } from '../support/real/docker.ts';
import { type HostedUser, hostedUser } from '../support/real/hosted-user.ts';
import { commandOf } from '../support/real/parts.ts';
import { type Podman, startPodman } from '../support/real/podman.ts';
import { pullBack } from '../support/real/pull.ts';
import { type DockerRegistry, REGISTRY_LOGIN, startDockerRegistry } from '../support/real/registry.ts';
import { describeWith, sharedDocker } from '../support/real/suite.ts';
import { runAction } from '../support/runner.ts';
import { runCommand } from '../support/terminal.ts';

const RECIPE = { seed: 'podman', layers: [{ bytes: 300_000, content: 'text' as const }, { bytes: 2000 }] };

describeWith(['podman', 'docker', 'docker-registry', 'skopeo', 'sudo'], "Debian's podman", () => {
  let podman: Podman;
  let registry: DockerRegistry;
  let locked: DockerRegistry;
  let imageId: string;

  beforeAll(async () => {
    [registry, locked] = await Promise.all([startDockerRegistry(), startDockerRegistry({ auth: true })]);
    podman = await startPodman();
    await buildImage({ command: commandOf('podman', 'podman'), env: podman.env }, 'shop/app:1', RECIPE);
    imageId = `sha256:${(await podman.run('image', 'inspect', '--format', '{{.Id}}', 'shop/app:1')).trim()}`;
  });

  afterAll(async () => {
    await Promise.all([registry?.stop(), locked?.stop(), podman?.stop()]);
  });

  const push = (inputs: Readonly<Record<string, string>>, env: Readonly<Record<string, string>> = podman.env) =>
    runAction({ inputs, env });

  it('gives an image that it built itself under localhost/, by its short name, its full name and its ID', async () => {
    expect(await podman.run('image', 'ls', '--format', '{{.Repository}}')).toContain('localhost/shop/app');
    for (const [tag, image] of [
      'shop/app:1',
      'localhost/shop/app:1',
      imageId.slice(7),
      imageId.slice(7, 19),
    ].entries()) {
      const reference = `${registry.host}/shop/app:${tag}`;
      const result = await push({ image, tags: reference, engine: 'podman' });
      expect(result.errors).toEqual([]);
      expect(result.outputs.imageid).toBe(imageId);
      expect((await pullBack(reference)).configDigest).toBe(imageId);
    }
  });

  it.each(['save', 'store'])('gives the same by export: %s, and pulls it back itself', async (way) => {
    const reference = `${registry.host}/shop/${way}:1`;
    const result = await push({ image: 'shop/app:1', tags: reference, export: way });
    expect(result.errors).toEqual([]);
    await podman.run('pull', '--quiet', '--tls-verify=false', reference);
    expect((await podman.run('image', 'inspect', '--format', '{{.Id}}', reference)).trim()).toBe(imageId.slice(7));
  });

  it('is found by engine: auto behind a docker that has no such image, and not asked when docker has it', async () => {
    const engine = await sharedDocker({ version: 'debian', store: 'overlay2' });
    const both = { ...podman.env, ...engine.env };
    const reference = `${registry.host}/shop/auto:1`;
    const byPodman = await push({ image: 'shop/app:1', tags: reference }, both);
    expect(byPodman.errors).toEqual([]);
    expect(byPodman.log).toContain(`${imageId} in podman`);
    const client = { command: commandOf('docker', 'docker'), env: engine.env };
    await buildImage(client, 'shop/app:1', { seed: 'docker has another one', layers: [{ bytes: 100 }] });
    const byDocker = await push({ image: 'shop/app:1', tags: `${registry.host}/shop/auto:2` }, both);
    await docker(engine, 'image', 'rm', '--force', 'shop/app:1');
    expect(byDocker.errors).toEqual([]);
    expect(byDocker.log).toContain('in docker');
    expect(byDocker.outputs.imageid).not.toBe(imageId);
  });

  it('lends its auth file', async () => {
    const { username, password } = REGISTRY_LOGIN;
    await podman.run('login', '--tls-verify=false', '--username', username, '--password', password, locked.host);
    const reference = `${locked.host}/shop/app:1`;
    const result = await push({ image: 'shop/app:1', tags: reference });
    expect(result.errors).toEqual([]);
    expect(result.visible).not.toContain(password);
    expect((await pullBack(reference, REGISTRY_LOGIN)).configDigest).toBe(imageId);
    const elsewhere = { ...podman.env, XDG_RUNTIME_DIR: join(podman.env.HOME!, 'empty') };
    const [error] = (await push({ image: 'shop/app:1', tags: `${locked.host}/shop/app:2` }, elsewhere)).errors;
    expect(error).toMatch(/login/);
  });

  it('says in its own words when it has no such image, without its warnings', async () => {
    const [error] = (await push({ image: 'shop/never:1', engine: 'podman', tags: `${registry.host}/x:1` })).errors;
    expect(error).toContain('podman: ');
    expect(error).toContain('shop/never:1: image not known');
    expect(error).not.toContain('level=');
  });

  describe('rootless, pushed by the same ordinary user', () => {
    let rootless: Podman;
    let user: HostedUser;

    beforeAll(async () => {
      user = await hostedUser();
      rootless = await startPodman({ user });
      const context = join(rootless.env.HOME!, 'context');
      mkdirSync(context);
      writeFileSync(join(context, 'file'), 'as an ordinary user');
      writeFileSync(join(context, 'Dockerfile'), 'FROM scratch\nCOPY file /file\nCMD ["/file"]\n');
      await rootless.run('build', '--quiet', '--tag', 'home/app:1', context);
    });

    afterAll(async () => {
      await rootless?.stop();
      user?.remove();
    });

    it.each(['auto', 'save'])('with export: %s', async (way) => {
      expect(await rootless.run('info', '--format', '{{.Host.Security.Rootless}}')).toContain('true');
      const reference = `${registry.host}/home/${way}:1`;
      const args = ['home/app:1', '--to', reference, '--engine', 'podman', '--export', way];
      const home = rootless.env.HOME!;
      const result = await runCommand(args, { user, env: { ...rootless.env, HOME: home } });
      expect(result).toMatchObject({ exitCode: 0 });
      const pulled = await pullBack(reference);
      expect(result.stdout.trim()).toBe(`${registry.host}/home/${way}@${pulled.digest}`);
      const id = await rootless.run('image', 'inspect', '--format', '{{.Id}}', 'home/app:1');
      expect(pulled.configDigest).toBe(`sha256:${id.trim()}`);
    });
  });
});
