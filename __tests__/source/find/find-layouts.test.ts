import { mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { digestOf, MediaType } from '../../../src/oci/types.ts';
import { walk } from '../../../src/oci/walk.ts';
import { failure, find, openWhole, path, write } from './found.ts';

/** Writes an OCI layout folder. */
class Layout {
  readonly folder: string;

  constructor(name: string) {
    this.folder = path(name);
    mkdirSync(join(this.folder, 'blobs/sha256'), { recursive: true });
    writeFileSync(join(this.folder, 'oci-layout'), '{"imageLayoutVersion":"1.0.0"}');
  }

  blob(content: Buffer | string | object, mediaType: string, more: object = {}) {
    const bytes =
      Buffer.isBuffer(content) || typeof content === 'string'
        ? Buffer.from(content as string)
        : Buffer.from(JSON.stringify(content));
    const digest = digestOf(bytes);
    writeFileSync(join(this.folder, 'blobs/sha256', digest.slice(7)), bytes);
    return { mediaType, digest, size: bytes.length, ...more };
  }

  index(...manifests: object[]): this {
    writeFileSync(join(this.folder, 'index.json'), JSON.stringify({ schemaVersion: 2, manifests }));
    return this;
  }
}

describe('OCI layouts', () => {
  const named = (name: string) => ({ annotations: { 'org.opencontainers.image.ref.name': name } });
  const weights = (layout: Layout, text: string, more: object = {}) => {
    const config = layout.blob({}, 'application/vnd.oci.empty.v1+json', { data: 'e30=' });
    const layers = [
      layout.blob(text, 'application/vnd.example.weights'),
      layout.blob({ json: text }, 'application/json'),
    ];
    return layout.blob(
      { schemaVersion: 2, artifactType: 'application/vnd.example.model', config, layers, ...more },
      MediaType.ociManifest,
    );
  };

  it('holds artifacts', async () => {
    const layout = new Layout('artifact');
    const artifact = weights(layout, 'w');
    const found = await find(`oci:${layout.index(artifact).folder}`);
    expect(found).toMatchObject({ root: artifact.digest, imageId: digestOf(Buffer.from('{}')) });
    const { store, blobs } = await openWhole(found);
    expect(blobs).toHaveLength(3);
    await store.close();
  });

  it('takes content that travels in its descriptor', async () => {
    const layout = new Layout('embedded');
    const artifact = weights(layout, 'w');
    rmSync(join(layout.folder, 'blobs/sha256', digestOf(Buffer.from('{}')).slice(7)));
    const { store, blobs } = await openWhole(await find(`oci:${layout.index(artifact).folder}`));
    expect(blobs).toContain(digestOf(Buffer.from('{}')));
    await store.close();
  });

  it('takes the one that is signed when nothing is said, and the signatures with it', async () => {
    const layout = new Layout('signed');
    const model = weights(layout, 'model');
    const signature = weights(layout, 'signature', { subject: model });
    const other = weights(layout, 'other signature', { subject: signature });
    layout.index(other, signature, { ...model, ...named('v1') });
    for (const ref of ['', ':v1', `:${model.digest}`]) {
      const found = await find(`oci:${layout.folder}${ref}`);
      expect(found.root).toBe(model.digest);
      const { store } = await openWhole(found);
      expect(walk(store.tree as never).documents.map(({ descriptor }) => descriptor.digest)).toEqual([
        model.digest,
        signature.digest,
        other.digest,
      ]);
      await store.close();
    }
  });

  it('reads indexes in indexes, and follows links to where a build tool has its blobs', async () => {
    const layout = new Layout('nested');
    const [one, two] = [weights(layout, 'one'), weights(layout, 'two')];
    const inner = layout.blob({ schemaVersion: 2, manifests: [one] }, MediaType.ociIndex);
    const outer = layout.blob({ schemaVersion: 2, manifests: [inner, two] }, MediaType.ociIndex);
    const elsewhere = path('elsewhere');
    const file = join(layout.folder, 'blobs/sha256', one.digest.slice(7));
    writeFileSync(elsewhere, readFileSync(file));
    rmSync(file);
    symlinkSync(elsewhere, file);
    const { store, blobs } = await openWhole(await find(`oci:${layout.index(outer).folder}`));
    expect(walk(store.tree as never)).toMatchObject({ manifests: [{}, {}], indexes: [{}, {}] });
    expect(blobs).toHaveLength(5);
    await store.close();
  });

  it('names what is wrong', async () => {
    const layout = new Layout('wrong');
    const artifact = weights(layout, 'w');
    const at = (...manifests: object[]) => failure(find(`oci:${layout.index(...manifests).folder}`));
    expect((await at()).message).toContain('holds no image');
    expect((await at({ ...artifact, size: 1 })).message).toMatch(/has \d+ bytes where its descriptor says 1/);
    expect((await at({ ...artifact, digest: `sha256:${'0'.repeat(64)}` })).message).toContain('and does not hold it');
    writeFileSync(join(layout.folder, 'blobs/sha256', artifact.digest.slice(7)), '{}');
    expect((await at(artifact)).message).toContain('is damaged: its bytes have the digest');
    writeFileSync(join(layout.folder, 'index.json'), 'no json');
    expect((await failure(find(`oci:${layout.folder}`))).message).toBe('index.json is not JSON');
    rmSync(join(layout.folder, 'index.json'));
    expect((await failure(find(`oci:${layout.folder}`))).message).toContain(
      'holds no image: neither index.json nor manifest.json',
    );
    expect((await failure(find(`oci:${path('nowhere')}`))).message).toBe(
      `the OCI layout ${path('nowhere')} does not exist`,
    );
    expect((await failure(find(`oci-archive:${layout.folder}`))).remedy).toBe(`write oci:${layout.folder}`);
    expect((await failure(find(`oci:${write('f', 'x')}`))).remedy).toBe(`write oci-archive:${path('f')}`);
    expect((await failure(find('oci:'))).message).toBe('oci: names no folder');
    expect((await failure(find('docker://r.example/a'))).message).toContain('is not a source of images here');
  });
});
