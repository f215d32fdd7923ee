/** Every trouble of TROUBLESHOOTING.md, provoked for real: each gives what the action says of it. */
import { mkdirSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { MediaType } from '../../src/oci/types.ts';
import { gatewayError, refuseOurUploads, registryError } from '../support/fault-proxy/faults.ts';
import { startFaultProxy } from '../support/fault-proxy/proxy.ts';
import { writeDockerArchive } from '../support/images.ts';
import { absentDigest, LayoutFolder } from '../support/layout.ts';
import { startNginx } from '../support/real/nginx.ts';
import { type Podman, startPodman } from '../support/real/podman.ts';
import { freePort, rootPrefix } from '../support/real/processes.ts';
import { REGISTRY_LOGIN, startDockerRegistry } from '../support/real/registry.ts';
import { refusal } from '../support/registry/answer.ts';
import { loopbackCertificate } from '../support/registry/certificate.ts';
import type { Quirk } from '../support/registry/quirk.ts';
import { type RegistryOptions, startRegistry } from '../support/registry/server.ts';
import type { Step } from '../support/registry/steps.ts';
import { type ActionRun, runAction } from '../support/runner.ts';
import { CACHE_TROUBLES } from './cache-troubles.ts';
import { MERGE_TROUBLES } from './merge-troubles.ts';
import { REGISTRY_TROUBLES } from './registry-troubles.ts';

/** What all of them share. */
export interface Bench {
  readonly folder: string;
  /** `docker-archive:` of a small image. */
  readonly image: string;
  /** A podman that has `team/app:1`, on a storage driver without layers of its own. */
  readonly podman: Podman;
}

export const makeBench = async (folder: string): Promise<Bench> => {
  const file = join(folder, 'image.tar');
  const layers = [{ bytes: 900_000, content: 'random' as const }, { bytes: 10 }];
  await writeDockerArchive(file, 'app:1', { seed: 'troubles', layers });
  const podman = await startPodman({ driver: 'vfs' });
  const context = join(folder, 'context');
  mkdirSync(context);
  writeFileSync(join(context, 'Dockerfile'), 'FROM scratch\nCOPY Dockerfile /\n');
  await podman.run('build', '--quiet', '--tag', 'team/app:1', context);
  return { folder, image: `docker-archive:${file}`, podman };
};

type Inputs = Readonly<Record<string, string>>;
type Env = Readonly<Record<string, string>>;

const push = (bench: Bench, inputs: Inputs, env: Env = {}): Promise<ActionRun> =>
  runAction({
    inputs: {
      image: bench.image,
      tags: 'registry.invalid/team/app:1',
      'max-retries': '1',
      'max-wait': '1s',
      ...inputs,
    },
    env,
  });

const failed = async (bench: Bench, inputs: Inputs, env: Env = {}): Promise<string> => {
  const { errors } = await push(bench, inputs, env);
  return errors[0]?.split('\n')[0] ?? 'no error';
};

/** A push to an embedded registry. */
const onRegistry = async (
  bench: Bench,
  options: RegistryOptions,
  inputs: Inputs = {},
  env: Env = {},
): Promise<ActionRun> => {
  const registry = await startRegistry(options);
  const result = await push(bench, { tags: `${registry.host}/team/app:1`, ...inputs }, env);
  await registry.close();
  return result;
};

/** A push to a registry that answers one kind of request so. */
const onAnswer = async (
  bench: Bench,
  step: Step | Step[],
  status: number,
  code: string,
  message: string,
): Promise<string> => {
  const registry = await startRegistry();
  const proxy = await startFaultProxy({ target: registry.host });
  const fault = code === '' ? gatewayError(status) : registryError(status, code, message);
  proxy.faults.add({ step, times: Number.POSITIVE_INFINITY, fault });
  const line = await failed(bench, { tags: `${proxy.host}/team/app:1` });
  await proxy.close();
  await registry.close();
  return line;
};

const firstError = ({ errors }: ActionRun): string => errors[0]?.split('\n')[0] ?? 'no error';
const firstWarning = ({ warnings }: ActionRun): string => warnings[0] ?? 'no warning';

const refusesUploads: Quirk = {
  name: 'nothing may be uploaded',
  before: ({ method }) => (method === 'PATCH' ? refusal(403, 'DENIED', 'no uploads') : undefined),
};

const layout = (bench: Bench, name: string): LayoutFolder => new LayoutFolder(join(bench.folder, name));

/** By a name for the test; each resolves to the line of the log. */
export const TROUBLES: Readonly<Record<string, (bench: Bench) => Promise<string>>> = {
  ...CACHE_TROUBLES,
  ...MERGE_TROUBLES,
  ...REGISTRY_TROUBLES,
  'a wrong password': async (bench) => {
    const registry = await startDockerRegistry({ auth: true });
    const { username } = REGISTRY_LOGIN;
    const line = await failed(bench, { tags: `${registry.host}/team/app:1`, username, password: 'wrong' });
    await registry.stop();
    return line;
  },
  'no credentials': async (bench) => {
    const registry = await startDockerRegistry({ auth: true });
    const line = await failed(bench, { tags: `${registry.host}/team/app:1` });
    await registry.stop();
    return line;
  },
  'no right to push': (bench) =>
    onAnswer(bench, ['upload-post', 'upload-mount'], 403, 'DENIED', 'requested access to the resource is denied'),
  'no such repository': (bench) =>
    onAnswer(
      bench,
      ['upload-post', 'upload-mount'],
      404,
      'NAME_UNKNOWN',
      "The repository with name 'team/app' does not exist",
    ),
  'an immutable tag': (bench) => onAnswer(bench, 'manifest-put', 400, 'TAG_INVALID', "The image tag '1' is immutable"),
  'a manifest that the registry refuses': (bench) =>
    onAnswer(bench, 'manifest-put', 400, 'MANIFEST_INVALID', 'manifest invalid'),
  'a registry that is down': (bench) => onAnswer(bench, ['upload-post', 'upload-mount'], 503, '', ''),
  'an unknown host': (bench) => failed(bench, {}),
  'nobody listens': async (bench) => failed(bench, { tags: `127.0.0.1:${await freePort()}/team/app:1` }),
  'an unknown authority': async (bench) => firstError(await onRegistry(bench, { tls: loopbackCertificate() })),
  'a limit that leaves no room': async (bench) => {
    const registry = await startDockerRegistry();
    const nginx = await startNginx({ upstream: registry.host, clientMaxBodySize: '1k' });
    const line = await failed(bench, { tags: `${nginx.host}/team/app:1` });
    await nginx.stop();
    await registry.stop();
    return line;
  },
  'a proxy whose limit is under what the registry takes': async (bench) => {
    const big = join(bench.folder, 'big.tar');
    await writeDockerArchive(big, 'app:1', { seed: 'big', layers: [{ bytes: 7_000_000, content: 'random' }] });
    return firstError(
      await onRegistry(bench, { profile: 'serverless', limit: 2_000_000 }, { image: `docker-archive:${big}` }),
    );
  },
  'no chunks, and a limit': async (bench) =>
    firstError(await onRegistry(bench, { profile: 'gar', limit: 300_000 }, { 'chunk-size': '200kB' })),
  'a layer that serverless-registry may not be able to close': async (bench) => {
    const huge = layout(bench, 'huge');
    const digest = absentDigest('huge layer');
    const file = join(huge.path, 'blobs/sha256', digest.slice(7));
    // It takes no room on the disk; the first bytes of a layer tell that it is compressed.
    writeFileSync(file, Buffer.from([0x1f, 0x8b, 8]));
    truncateSync(file, 5 * 2 ** 30 + 1);
    const layer = { mediaType: MediaType.ociLayerGzip, digest, size: 5 * 2 ** 30 + 1 };
    huge.close(await huge.image('amd64', { foreign: [layer] }));
    const quirks = [refusesUploads];
    return firstWarning(await onRegistry(bench, { profile: 'serverless', quirks }, { image: `oci:${huge.path}` }));
  },
  'no such image': (bench) => failed(bench, { image: 'team/never-built:1', engine: 'podman' }, bench.podman.env),
  'no engine': (bench) => failed(bench, { image: 'team/app:1' }, { PATH: bench.folder }),
  'an engine that does not answer': (bench) =>
    failed(
      bench,
      { image: 'team/app:1', engine: 'docker' },
      { PATH: process.env.PATH ?? '', DOCKER_HOST: `unix://${bench.folder}/none.sock` },
    ),
  'a store that can not be read': async (bench) => {
    const inputs = { image: 'team/app:1', engine: 'podman', export: 'store' };
    return firstError(await onRegistry(bench, {}, inputs, bench.podman.env));
  },
  'a fallback': async (bench) => {
    const registry = await startRegistry();
    const proxy = await startFaultProxy({ target: registry.host });
    proxy.faults.add(refuseOurUploads);
    const inputs = { image: 'team/app:1', engine: 'podman', fallback: 'engine', tags: `${proxy.host}/team/app:1` };
    const result = await push(bench, inputs, bench.podman.env);
    await proxy.close();
    await registry.close();
    return firstWarning(result);
  },
  'a layer that is nowhere': async (bench) => {
    const broken = layout(bench, 'broken');
    const image = await broken.image('amd64', {
      foreign: [
        { mediaType: 'application/vnd.oci.image.layer.v1.tar+gzip', digest: absentDigest('layer'), size: 1000 },
      ],
    });
    broken.close(image);
    return firstError(await onRegistry(bench, {}, { image: `oci:${broken.path}` }));
  },
  'an archive that is cut': async (bench) => {
    const cut = join(bench.folder, 'cut.tar');
    await writeDockerArchive(cut, 'app:1', { seed: 'cut', layers: [{ bytes: 100_000 }] });
    truncateSync(cut, 50_000);
    return failed(bench, { image: `docker-archive:${cut}` });
  },
  'a file that is no archive': (bench) => {
    const file = join(bench.folder, 'notes.txt');
    writeFileSync(file, 'no archive\n'.repeat(100));
    return failed(bench, { image: `docker-archive:${file}` });
  },
  'no such file': (bench) => failed(bench, { image: 'oci-archive:image.tar' }),
  'several images': async (bench) => {
    const several = layout(bench, 'several');
    several.close(['one', await several.image('one')], ['two', await several.image('two')]);
    return failed(bench, { image: `oci:${several.path}` });
  },
  'a platform that is not there': async (bench) => {
    const platforms = layout(bench, 'platforms');
    const manifests = [await platforms.image('amd64'), await platforms.image('arm64')];
    platforms.close(platforms.document('application/vnd.oci.image.index.v1+json', { manifests }));
    return firstError(await onRegistry(bench, {}, { image: `oci:${platforms.path}`, platforms: 'linux/s390x' }));
  },
  'a platform that is absent': async (bench) => {
    const absent = layout(bench, 'absent');
    const [here, gone] = [await absent.image('amd64'), await absent.image('arm64')];
    absent.close(absent.document('application/vnd.oci.image.index.v1+json', { manifests: [here, gone] }));
    rmSync(join(absent.path, 'blobs/sha256', gone.digest.slice(7)));
    return firstWarning(await onRegistry(bench, {}, { image: `oci:${absent.path}` }));
  },
  'tag and digest': (bench) => failed(bench, { tags: `registry.example.com/team/app:1@sha256:${'a'.repeat(64)}` }),
  'no tags': (bench) => failed(bench, { tags: '' }),
  'a size that is none': (bench) => failed(bench, { 'chunk-size': '12 parsecs' }),
  'a secret that is empty': (bench) => failed(bench, { username: 'me', password: '' }),
  'an unreadable CA file': (bench) => failed(bench, { 'ca-file': 'corporate-ca.pem' }),
  'a full disk': async (bench) => {
    const registry = await startRegistry();
    const smallDisk = 'mount -t tmpfs -o size=400k none "$RUNNER_TEMP"; exec "$@"';
    const run = await runAction({
      inputs: { image: bench.image, tags: `${registry.host}/team/app:1` },
      prefix: [...rootPrefix(), 'unshare', '--mount', 'sh', '-ec', smallDisk, 'sh'],
    });
    await registry.close();
    return firstError(run);
  },
  'a list of referrers that can not be put': async (bench) => {
    const signed = layout(bench, 'signed');
    const image = await signed.image('amd64');
    const config = signed.blob(Buffer.from('{}'), 'application/vnd.oci.empty.v1+json');
    const subject = { mediaType: image.mediaType, digest: image.digest, size: image.size };
    const signature = signed.document(image.mediaType, { config, layers: [], subject });
    signed.close(['v1', image], signature);
    const noSuchTags: Quirk = {
      name: 'tags are versions',
      before: ({ method, route: { reference } }) =>
        method === 'PUT' && reference.startsWith('sha256-')
          ? refusal(400, 'TAG_INVALID', 'tags are versions here')
          : undefined,
    };
    const options: RegistryOptions = { profile: 'distribution2', quirks: [noSuchTags] };
    return firstWarning(await onRegistry(bench, options, { image: `oci:${signed.path}:v1` }));
  },
  'a cancel': async (bench) => {
    const registry = await startRegistry();
    const proxy = await startFaultProxy({ target: registry.host, bandwidth: 100_000 });
    const { errors } = await runAction({
      inputs: { image: bench.image, tags: `${proxy.host}/team/app:1` },
      onOutput: (text, signal) => {
        if (text.includes('uploading')) signal('SIGINT');
      },
    });
    await proxy.close();
    await registry.close();
    return errors[0]?.split('\n')[0] ?? 'no error';
  },
};
