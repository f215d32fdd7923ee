import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { RawInputs } from '../../src/push/input-values.ts';
import { push } from '../../src/push/push.ts';
import { writeDockerArchive } from '../support/images.ts';
import { refusal } from '../support/registry/answer.ts';
import type { Quirk } from '../support/registry/quirk.ts';
import { Events, folderForTest, registryForTest, requestForTest } from './bench.ts';

const KB = 1000;

const archiveOf = async (seed: string): Promise<string> => {
  const file = join(await folderForTest(), 'image.tar');
  const layers = [{ bytes: 60 * KB }, { bytes: 40 * KB }, 'empty' as const, { repeat: 0 }];
  await writeDockerArchive(file, 'app:1', { seed, layers });
  return `docker-archive:${file}`;
};

const pushInto = async (raw: RawInputs, cancel = new AbortController()) => {
  const events = new Events();
  const request = await requestForTest({ cache: 'false', ...raw });
  const result = await push(request, events.report, cancel.signal);
  return { result, events, request };
};

describe('a push', () => {
  it('sends nothing the second time, with no cache but what the registry tells', async () => {
    const registry = await registryForTest();
    const raw = { image: await archiveOf('again'), tags: `${registry.host}/team/app:v1` };
    const first = await pushInto(raw);
    expect(first.result.metadata.bytesSent).toBe(registry.uploadedBytes());
    const again = await pushInto(raw);
    expect(again.result.digest).toBe(first.result.digest);
    expect(again.result.metadata).toMatchObject({ bytesSent: 0, bytesResent: 0 });
  });

  it('leaves nothing in its folder when nothing is kept', async () => {
    const registry = await registryForTest();
    const { request } = await pushInto({ image: await archiveOf('clean'), tags: `${registry.host}/team/app:v1` });
    expect(existsSync(join(request.workDir, `spool-${process.pid}`))).toBe(false);
  });

  it('changes nothing in a dry run, and says what it would do', async () => {
    const registry = await registryForTest();
    const raw = { image: await archiveOf('dry'), tags: `${registry.host}/team/app:v1`, 'dry-run': 'true' };
    const { result, events } = await pushInto(raw);
    expect(result).toMatchObject({ digest: undefined, image: undefined, failures: [] });
    expect(registry.requests.filter(({ method }) => !['GET', 'HEAD'].includes(method))).toEqual([]);
    expect(events.texts('info').filter((text) => text.includes('would be uploaded'))).toHaveLength(4);
    expect(events.texts('info')).toContain(`Would put the manifest as ${registry.host}/team/app:v1`);
  });

  it('ends with CancelledError when it is cancelled', async () => {
    const registry = await registryForTest();
    const cancel = new AbortController();
    cancel.abort(new Error('SIGINT'));
    const raw = { image: await archiveOf('cancel'), tags: `${registry.host}/team/app:v1` };
    await expect(pushInto(raw, cancel)).rejects.toMatchObject({ name: 'CancelledError' });
  });
});

describe('a registry that denies what its HEAD has confirmed', () => {
  /** HEAD says 200 for these, whatever is true. */
  const liesAbout = (digests: ReadonlySet<string>): Quirk => ({
    name: 'says that it has what it lacks',
    after: (given, { route: { step, reference } }) =>
      step === 'blob-head' && digests.has(reference) ? { status: 200, headers: {} } : given,
  });

  it('gets the named blobs again, once, and they are counted', async () => {
    const digests = new Set<string>();
    const registry = await registryForTest({ quirks: [liesAbout(digests)] });
    const raw = { image: await archiveOf('denied'), tags: `${registry.host}/team/app:v1` };
    const first = await pushInto(raw);
    const [lost, kept] = first.result.metadata.blobs.filter(({ mediaType }) => mediaType.includes('layer'));
    digests.add(lost?.digest ?? '').add(kept?.digest ?? '');
    await registry.removeBlob('team/app', lost?.digest ?? '');
    const before = registry.uploadedBytes();
    // Under another tag: one that names the digest already is not put again.
    const { result, events } = await pushInto({ ...raw, tags: `${registry.host}/team/app:v2` });
    expect(result.digest).toBe(first.result.digest);
    expect(registry.uploadedBytes() - before).toBe(lost?.size);
    expect(registry.blobs('team/app')).toContain(lost?.digest);
    expect(result.metadata.blobs.find(({ digest }) => digest === lost?.digest)?.what).toBe('uploaded');
    expect(result.metadata.bytesSent).toBe(lost?.size);
    expect(events.texts('notice').join()).toContain(`The registry lacks ${lost?.digest} after all`);
  });

  it('fails alone when it denies them again', async () => {
    const denies: Quirk = {
      name: 'never finds a blob when the manifest comes',
      before: ({ method, route: { step, repository } }, { store }) => {
        if (method !== 'PUT' || step !== 'manifest-put') return undefined;
        const [digest] = store.repositories.get(repository)?.blobs ?? [];
        return refusal(404, 'MANIFEST_BLOB_UNKNOWN', 'blob unknown', { digest });
      },
    };
    const [bad, good] = [await registryForTest({ quirks: [denies] }), await registryForTest()];
    const raw = { image: await archiveOf('twice'), tags: `${bad.host}/team/app:v1,${good.host}/team/app:v1` };
    const { result } = await pushInto(raw);
    expect(result.failures).toMatchObject([{ destination: `${bad.host}/team/app` }]);
    expect(String(result.failures[0]?.error)).toContain('twice');
    expect(good.tags('team/app')).toEqual(['v1']);
    expect(result.image).toBe(`${good.host}/team/app@${result.digest}`);
    await expect(pushInto({ ...raw, tags: `${bad.host}/team/app:v2` })).rejects.toThrow(/twice/);
  });
});

describe('the layer cache on this machine', () => {
  it('gives back what the registry has lost, unless its bytes are others', async () => {
    const registry = await registryForTest();
    const image = await archiveOf('local');
    const request = await requestForTest({ image, tags: `${registry.host}/team/app:v1` });
    const pushAgain = async () => {
      await registry.reset();
      const { digest, metadata } = await push(request, new Events().report, new AbortController().signal);
      return { digest, cached: metadata.blobs.filter(({ fromCache }) => fromCache).length };
    };
    const first = await pushAgain();
    expect(first.cached).toBe(0);
    expect(await pushAgain()).toEqual({ digest: first.digest, cached: 3 });
    damageLayers(request.workDir);
    expect(await pushAgain()).toEqual(first);
  });
});

/** Changes a byte of every compressed layer that is kept in a push's folder. */
function damageLayers(workDir: string): void {
  const [format = ''] = readdirSync(join(workDir, 'v1'));
  const folder = join(workDir, 'v1', format, 'layers');
  for (const name of readdirSync(folder)) {
    const bytes = readFileSync(join(folder, name));
    bytes.writeUInt8(bytes.readUInt8(bytes.length - 1) ^ 1, bytes.length - 1);
    writeFileSync(join(folder, name), bytes);
  }
}
