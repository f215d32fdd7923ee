/** What `doctor` finds out, at real registries and at profiles of the test registry; and that it leaves nothing behind. */
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import type { Diagnosis } from '../../src/push/diagnosis.ts';
import { examine } from '../../src/push/doctor.ts';
import type { RawInputs } from '../../src/push/input-values.ts';
import { diagnosisLines } from '../../src/report/lines.ts';
import { startNginx } from '../support/real/nginx.ts';
import { freePort } from '../support/real/processes.ts';
import { REGISTRY_LOGIN, startDockerRegistry } from '../support/real/registry.ts';
import { describeWith } from '../support/real/suite.ts';
import { loopbackCertificate } from '../support/registry/certificate.ts';
import { TEST_CREDENTIALS } from '../support/registry/profiles.ts';
import type { Quirk } from '../support/registry/quirk.ts';
import { folderForTest, registryForTest, requestForTest } from './bench.ts';

const MIB = 2 ** 20;

async function diagnose(host: string, raw: RawInputs = {}): Promise<Diagnosis> {
  const request = await requestForTest({ ...raw, tags: `${host}/team/app:1`, image: `${host}/team/app:1` });
  return examine(request.destinations[0]!, request, () => {}, new AbortController().signal);
}

describeWith(['docker-registry', 'nginx'], 'a real registry', () => {
  it('without limits takes everything', async () => {
    const registry = await startDockerRegistry();
    try {
      const diagnosis = await diagnose(registry.host);
      expect(diagnosis).toMatchObject({
        reference: `${registry.host}/team/app`,
        scheme: 'http',
        auth: 'none',
        mayPush: true,
        takesChunks: true,
        resumes: true,
        referrers: false,
        largestBody: 1024 * MIB,
        refusedBody: undefined,
        inputs: {},
        problem: undefined,
      });
      expect(diagnosis.roundTripMs).toBeGreaterThan(0);
      expect([registry.openUploads(), registry.manifests()]).toEqual([[], []]);
    } finally {
      await registry.stop();
    }
  });

  it('behind nginx with 10m takes bodies of 10 MiB, which is the input that follows', async () => {
    const registry = await startDockerRegistry();
    const nginx = await startNginx({ upstream: registry.host, clientMaxBodySize: '10m' });
    try {
      const diagnosis = await diagnose(nginx.host);
      expect(diagnosis).toMatchObject({
        largestBody: 10 * MIB,
        refusedBody: { bytes: 16 * MIB, reason: expect.stringContaining('413') },
        inputs: { 'chunk-size': String(10 * MIB) },
        answers: [expect.stringContaining('nginx')],
        takesChunks: true,
        resumes: true,
      });
      expect(nginx.requests().length).toBeLessThan(40);
      expect(registry.openUploads()).toEqual([]);
      expect(diagnosisLines(diagnosis).join('\n')).toContain('inputs        chunk-size: 10485760');
    } finally {
      await nginx.stop();
      await registry.stop();
    }
  });

  it('behind an nginx that does not read bodies ahead is found as well', async () => {
    const registry = await startDockerRegistry();
    const nginx = await startNginx({ upstream: registry.host, clientMaxBodySize: '1m', requestBuffering: false });
    try {
      const diagnosis = await diagnose(nginx.host);
      expect(diagnosis).toMatchObject({ largestBody: MIB, refusedBody: { bytes: 2 * MIB } });
      expect(registry.openUploads()).toEqual([]);
    } finally {
      await nginx.stop();
      await registry.stop();
    }
  });

  it('with passwords says whether ours is good for a push', async () => {
    const registry = await startDockerRegistry({ auth: true });
    try {
      const { username, password } = REGISTRY_LOGIN;
      const good = await diagnose(registry.host, { username, password });
      expect(good).toMatchObject({ auth: 'basic', mayPush: true, credentials: 'the inputs username and password' });
      const none = await diagnose(registry.host);
      expect(none).toMatchObject({ auth: 'basic', mayPush: false, problem: expect.stringContaining('401') });
      expect(Object.keys(none.inputs)).toEqual(['username', 'password']);
    } finally {
      await registry.stop();
    }
  });
});

it('serverless-registry: what it announces is what is tried', async () => {
  const registry = await registryForTest({ profile: 'serverless' });
  const diagnosis = await diagnose(registry.host);
  expect(diagnosis).toMatchObject({
    announcedMin: 5 * MIB,
    announcedMax: 100_000_000,
    largestBody: 100_000_000,
    takesChunks: true,
    resumes: true,
    inputs: {},
    problem: undefined,
  });
});

it('a registry that takes no chunks says so', async () => {
  const registry = await registryForTest({ profile: 'gar' });
  const diagnosis = await diagnose(registry.host);
  expect(diagnosis).toMatchObject({ mayPush: true, takesChunks: false, problem: undefined });
  expect(diagnosisLines(diagnosis).join('\n')).toContain('not taken');
});

it.each(['upload-post', 'upload-patch', 'upload-get', 'upload-delete'] as const)(
  'that is cancelled at its %s leaves no upload behind',
  async (step) => {
    const cancel = new AbortController();
    const cancelling: Quirk = {
      name: 'cancels the examination before the answer',
      after: (given, { route }) => {
        if (route.step === step) cancel.abort(new Error('SIGTERM'));
        return given;
      },
    };
    const registry = await registryForTest({ quirks: [cancelling] });
    const before = registry.contents();
    const tags = `${registry.host}/team/app:1`;
    const request = await requestForTest({ tags, image: tags });
    const examining = examine(request.destinations[0]!, request, () => {}, cancel.signal);
    await expect(examining).rejects.toThrow('SIGTERM');
    expect(registry.requests.map((asked) => asked.step)).toContain('upload-post');
    expect(registry.contents()).toEqual(before);
  },
);

it('bearer tokens', async () => {
  const registry = await registryForTest({ profile: 'gitlab' });
  const diagnosis = await diagnose(registry.host, TEST_CREDENTIALS);
  expect(diagnosis).toMatchObject({ auth: 'bearer', mayPush: true, problem: undefined });
});

it('a port where nothing listens is a diagnosis too', async () => {
  const diagnosis = await diagnose(`127.0.0.1:${await freePort()}`);
  expect(diagnosis).toMatchObject({ mayPush: false, problem: expect.stringContaining('ECONNREFUSED') });
  const lines = diagnosisLines(diagnosis);
  expect(lines.at(-1)).toMatch(/^ {2}problem .*ECONNREFUSED/);
  expect(lines.length).toBeLessThan(6);
});

it('an unknown certificate is named, with the input that follows; a known one is trusted', async () => {
  const { key, cert } = loopbackCertificate();
  const registry = await registryForTest({ tls: { key, cert } });
  const unknown = await diagnose(registry.host);
  expect(unknown).toMatchObject({ scheme: 'https', mayPush: false, problem: expect.stringMatching(/certificate/) });
  expect(unknown.certificate?.problem).toMatch(/SELF_SIGNED|UNABLE_TO_VERIFY|DEPTH_ZERO/);
  expect(unknown.inputs).toHaveProperty(['ca-file']);
  const file = join(await folderForTest(), 'ca.pem');
  writeFileSync(file, cert);
  const known = await diagnose(registry.host, { 'ca-file': file });
  expect(known).toMatchObject({ scheme: 'https', mayPush: true, inputs: {}, problem: undefined });
  expect(known.certificate).toMatchObject({ protocol: 'TLSv1.3', problem: undefined });
});

it('a page that answers everything is no registry', async () => {
  const server = createServer((_, response) => response.end('<html><title>welcome</title></html>'));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  try {
    const diagnosis = await diagnose(`127.0.0.1:${(server.address() as AddressInfo).port}`);
    expect(diagnosis).toMatchObject({
      mayPush: false,
      referrers: undefined,
      problem: expect.stringMatching(/200 to the opening of an upload.* does not answer as a container registry/),
    });
  } finally {
    server.close();
  }
});
