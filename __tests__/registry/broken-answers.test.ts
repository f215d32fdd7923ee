/** Answers that break off while they are read: what is read is asked for again, as where no answer came. */
import { expect, it } from 'vitest';
import { digestOf, MediaType } from '../../src/oci/types.ts';
import type { Repository } from '../../src/registry/repository.ts';
import { truncateAnswer } from '../support/fault-proxy/faults.ts';
import type { Step } from '../support/registry/steps.ts';
import { REPOSITORY, startProxied } from './helpers/behind-proxy.ts';
import { imageManifest } from './upload/client.ts';

const CONFIG = Buffer.from(JSON.stringify({ architecture: 'amd64', os: 'linux', comment: 'x'.repeat(3000) }));
const MANIFEST = imageManifest(CONFIG, [], { annotations: { comment: 'y'.repeat(3000) } });
const REFERRER = imageManifest(CONFIG, [], {
  artifactType: 'application/spdx+json',
  subject: { mediaType: MediaType.ociManifest, digest: digestOf(MANIFEST), size: MANIFEST.length },
  annotations: { comment: 'z'.repeat(3000) },
});
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
  const { server, proxy, connect } = await startProxied({});
  const { repository, events } = connect();
  await server.addBlob(REPOSITORY, CONFIG);
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
