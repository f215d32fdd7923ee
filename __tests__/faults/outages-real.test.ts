/** A registry that is killed and started again, and a proxy that is stopped, in the middle of a push. In real time: 20 s each. */
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, it, onTestFinished } from 'vitest';
import { MediaType } from '../../src/oci/types.ts';
import { systemClock } from '../../src/registry/host/throttle.ts';
import { bytesOf, connect, digestOfBytes, imageManifest, knownBody, MIB } from '../registry/upload/client.ts';
import { startNginx } from '../support/real/nginx.ts';
import { privateFolder, removeFolder } from '../support/real/processes.ts';
import { startDockerRegistry } from '../support/real/registry.ts';
import { describeWith } from '../support/real/suite.ts';

const AWAY_MS = 20_000;

const LAYER = bytesOf(6 * MIB, 'through an outage');
const CONFIG = Buffer.from('{}');
const MANIFEST = imageManifest(CONFIG, [LAYER]);

/** Pushes through `host`; calls `interrupt` once when half of the layer is there. Resolves to what was reported. */
async function pushThrough(host: string, interrupt: () => void) {
  const { registry, events } = connect(host, { clock: systemClock });
  onTestFinished(() => registry.close());
  const repository = registry.repository('team/app');
  const { signal } = new AbortController();
  let isInterrupted = false;
  const onProgress = (bytes: number): void => {
    if (isInterrupted || bytes < LAYER.length / 2) return;
    isInterrupted = true;
    interrupt();
  };
  const layer = await repository.uploadBlob(knownBody(LAYER), { label: 'the layer', signal, onProgress });
  await repository.uploadBlob(knownBody(CONFIG), { label: 'the config', signal });
  const { digest } = await repository.putManifest(MANIFEST, MediaType.ociManifest, 'v1', signal);
  expect([layer.what, isInterrupted, digest]).toEqual(['uploaded', true, digestOfBytes(MANIFEST)]);
  return events.flatMap(({ type }) => (type === 'waiting' || type === 'resumed' ? [type] : []));
}

async function served(host: string): Promise<Buffer> {
  const answer = await fetch(`http://${host}/v2/team/app/blobs/${digestOfBytes(LAYER)}`);
  return Buffer.from(await answer.arrayBuffer());
}

describeWith(['docker-registry'], 'docker-registry', () => {
  it('is killed and started again after 20 s', { timeout: 180_000 }, async () => {
    const storage = privateFolder('storage');
    onTestFinished(() => removeFolder(storage));
    const first = await startDockerRegistry({ storage });
    const { host } = first;
    const second = Promise.withResolvers<Awaited<ReturnType<typeof startDockerRegistry>>>();
    const reports = await pushThrough(host, () => {
      void first.stop().then(async () => {
        await sleep(AWAY_MS);
        startDockerRegistry({ storage, host }).then(second.resolve, second.reject);
      });
    });
    const registry = await second.promise;
    onTestFinished(() => registry.stop());
    expect(reports).toEqual(['waiting', 'resumed']);
    expect((await served(host)).equals(LAYER)).toBe(true);
  });
});

describeWith(['docker-registry', 'nginx'], 'nginx before a registry', () => {
  it('is stopped for 20 s', { timeout: 180_000 }, async () => {
    const registry = await startDockerRegistry();
    onTestFinished(() => registry.stop());
    const options = { upstream: registry.host, clientMaxBodySize: '0' };
    const first = await startNginx(options);
    const { host } = first;
    const second = Promise.withResolvers<Awaited<ReturnType<typeof startNginx>>>();
    const reports = await pushThrough(host, () => {
      void first.stop().then(async () => {
        await sleep(AWAY_MS);
        startNginx({ ...options, port: Number(host.split(':')[1]) }).then(second.resolve, second.reject);
      });
    });
    const nginx = await second.promise;
    onTestFinished(() => nginx.stop());
    expect(reports).toEqual(['waiting', 'resumed']);
    expect((await served(host)).equals(LAYER)).toBe(true);
  });
});
