/** Answers that break off while they are read: what is read is asked for again, as where no answer came. */
import { expect, it, onTestFinished } from 'vitest';
import { digestOf, MediaType } from '../../src/oci/types.ts';
import type { Repository } from '../../src/registry/repository.ts';
import { truncateAnswer } from '../support/fault-proxy/faults.ts';
import { startFaultProxy } from '../support/fault-proxy/proxy.ts';
import { startRegistry } from '../support/registry/server.ts';
import type { Step } from '../support/registry/steps.ts';
import { connect } from './upload/client.ts';

const CONFIG = Buffer.from(JSON.stringify({ architecture: 'amd64', os: 'linux', comment: 'x'.repeat(3000) }));
const MANIFEST = Buffer.from(
  JSON.stringify({
    schemaVersion: 2,
    mediaType: MediaType.ociManifest,
    config: { mediaType: MediaType.ociConfig, digest: digestOf(CONFIG), size: CONFIG.length },
    layers: [],
    annotations: { comment: 'y'.repeat(3000) },
  }),
);
const REFERRER = Buffer.from(
  JSON.stringify({
    schemaVersion: 2,
    mediaType: MediaType.ociManifest,
    artifactType: 'application/spdx+json',
    config: { mediaType: MediaType.ociConfig, digest: digestOf(CONFIG), size: CONFIG.length },
    layers: [],
    subject: { mediaType: MediaType.ociManifest, digest: digestOf(MANIFEST), size: MANIFEST.length },
    annotations: { comment: 'z'.repeat(3000) },
  }),
);
const { signal } = new AbortController();

it.each([
  ['manifest-get', (repository) => repository.getManifest('v1', signal).then((found) => found?.bytes.equals(MANIFEST))],
  [
    'blob-get',
    (repository) =>
      repository.getBlob(digestOf(CONFIG), { maxBytes: 10_000, signal }).then((bytes) => bytes?.equals(CONFIG)),
  ],
  ['tags', (repository) => repository.tags(signal).then((tags) => tags.includes('v1'))],
  [
    'referrers',
    (repository) =>
      repository.referrers(digestOf(MANIFEST), signal).then((list) => list?.[0]?.digest === digestOf(REFERRER)),
  ],
] as [Step, (repository: Repository) => Promise<unknown>][])('%s, twice', async (step, read) => {
  const server = await startRegistry();
  const proxy = await startFaultProxy({ target: server.host });
  const { registry, events } = connect(proxy.host);
  onTestFinished(async () => {
    await registry.close();
    await proxy.close();
    await server.close();
  });
  await server.addBlob('team/app', CONFIG);
  const repository = registry.repository('team/app');
  await repository.putManifest(MANIFEST, MediaType.ociManifest, 'v1', signal);
  await repository.putManifest(REFERRER, MediaType.ociManifest, digestOf(REFERRER), signal);
  for (let n = 0; n < 20; n += 1) {
    await repository.putManifest(MANIFEST, MediaType.ociManifest, `${'v'.repeat(100)}${n}`, signal);
  }
  const rule = proxy.faults.add({ step, fault: truncateAnswer(1000), times: 2 });
  expect(await read(repository)).toBe(true);
  expect(rule.hits).toBe(2);
  expect(events.filter(({ type }) => type === 'retry')).toHaveLength(2);
});
