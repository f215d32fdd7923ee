/** Uploads to the real docker-registry (distribution 2.8), alone, behind nginx with a limit, and behind cuts. */
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { Repository } from '../../../src/registry/repository.ts';
import { cutAfter, dropAnswer, gatewayError } from '../../support/fault-proxy/faults.ts';
import { startFaultProxy } from '../../support/fault-proxy/proxy.ts';
import { startNginx } from '../../support/real/nginx.ts';
import { type DockerRegistry, startDockerRegistry } from '../../support/real/registry.ts';
import { describeWith } from '../../support/real/suite.ts';
import { bytesOf, connect, digestOfBytes, GrowingBody, KIB, knownBody, MIB, plain } from './client.ts';

const { signal } = new AbortController();

/** Reads a blob back through another connection and compares it. */
async function expectStored(repository: Repository, bytes: Buffer): Promise<void> {
  const stored = await repository.getBlob(digestOfBytes(bytes), { maxBytes: bytes.length, signal });
  expect(stored?.equals(bytes)).toBe(true);
}

describeWith(['docker-registry', 'nginx'], 'docker-registry', () => {
  let registry: DockerRegistry;

  beforeAll(async () => {
    registry = await startDockerRegistry();
  });

  afterAll(async () => {
    await registry.stop();
  });

  it.each([0, 1, MIB, MIB + 1, 2 * MIB, 5 * MIB + 77])('%i bytes, known before and made meanwhile', async (size) => {
    const client = connect(registry.host, { chunkSize: MIB });
    const repository = client.registry.repository(`sizes/s${size}`);
    const bytes = bytesOf(size, `real ${size}`);
    expect((await repository.uploadBlob(knownBody(bytes), plain())).what).toBe('uploaded');
    await expectStored(repository, bytes);
    const grown = bytesOf(size, `real growing ${size}`);
    const body = new GrowingBody(grown);
    const upload = repository.uploadBlob(body, plain());
    for (let at = 0; at < size; at += 700 * KIB) body.grow(at);
    body.end();
    expect((await upload).bytesResent).toBe(0);
    await expectStored(repository, grown);
    await client.registry.close();
  });

  it('a mount, and a blob that is there', async () => {
    const client = connect(registry.host);
    const bytes = bytesOf(3 * MIB, 'mounted');
    const [base, app] = [client.registry.repository('mounts/base'), client.registry.repository('mounts/app')];
    await base.uploadBlob(knownBody(bytes), plain());
    expect((await app.uploadBlob(knownBody(bytes), { ...plain(), mountFrom: 'mounts/base' })).what).toBe('mounted');
    expect((await app.uploadBlob(knownBody(bytes), plain())).what).toBe('exists');
    expect(await app.headBlob(digestOfBytes(bytes), signal)).toEqual({ state: 'present', size: 3 * MIB });
    await client.registry.close();
  });

  it('behind nginx with 10 MiB and no chunk size given: the limit is found, once', async () => {
    const nginx = await startNginx({ upstream: registry.host, clientMaxBodySize: '10m' });
    const client = connect(nginx.host, { chunkSize: 'auto' });
    const repository = client.registry.repository('limited/app');
    const bytes = bytesOf(40 * MIB, 'behind nginx');
    const outcome = await repository.uploadBlob(knownBody(bytes), plain());
    await expectStored(repository, bytes);
    expect(client.registry.limitFound).toBe(10 * MIB);
    expect(nginx.requests().filter(({ status }) => status === 413)).toHaveLength(2);
    expect(outcome.what).toBe('uploaded');
    await client.registry.close();
    await nginx.stop();
  });

  it.each([
    ['a chunk is cut', 'upload-patch', cutAfter(300 * KIB)],
    ['the answer to a chunk is lost', 'upload-patch', dropAnswer],
    ['a chunk gets 503', 'upload-patch', gatewayError(503)],
    ['the answer to the close is lost', 'upload-put', dropAnswer],
    ['the close gets 502', 'upload-put', gatewayError(502)],
    ['the answer to POST is lost', 'upload-post', dropAnswer],
  ] as const)('%s', async (name, step, fault) => {
    const proxy = await startFaultProxy({ target: registry.host });
    proxy.faults.add({ step, nth: step === 'upload-patch' ? 3 : 1, fault });
    const client = connect(proxy.host, { chunkSize: MIB });
    const repository = client.registry.repository('faults/app');
    const bytes = bytesOf(5 * MIB + 5, name);
    const outcome = await repository.uploadBlob(knownBody(bytes), plain());
    await expectStored(repository, bytes);
    // distribution 2.8 knows an upload by the state in the newest Location only: without that answer the session is lost.
    const loses = name === 'a chunk is cut' || name === 'the answer to a chunk is lost';
    expect(outcome.bytesResent).toBeLessThanOrEqual(loses ? 3 * MIB : MIB);
    await client.registry.close();
    await proxy.close();
  });
});
