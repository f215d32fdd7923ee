/** The v1 IDs of `docker save` before version 25, proven by archives of a real Docker 20.10 and by IDs made as moby makes them. */
import { createHash } from 'node:crypto';
import { extract } from 'tar-stream';
import { describe, expect, it } from 'vitest';
import { chainIdsOf, type Digest, digestOf } from '../../../src/oci/types.ts';
import { LegacyLayers } from '../../../src/source/archive/stream-documents.ts';
import { DOCKER20, fixture } from '../fixtures.ts';

const DIFF_IDS = ['base', 'middle', 'top'].map((name) => digestOf(Buffer.from(name))) as [Digest, Digest, Digest];

/** The files of an archive by name. */
async function filesOf(tar: Buffer): Promise<ReadonlyMap<string, Buffer>> {
  const files = new Map<string, Buffer>();
  const reader = extract();
  reader.end(tar);
  for await (const entry of reader) {
    const chunks: Buffer[] = [];
    for await (const chunk of entry) chunks.push(chunk as Buffer);
    files.set(entry.header.name, Buffer.concat(chunks));
  }
  return files;
}

/** A folder and its `json` as moby writes them: `text` are the members of a V1Image, in alphabetical order and as Go has them. */
function layerOf(text: string, chainId: Digest, parent?: string) {
  const members = [text, `"layer_id":"${chainId}"`, ...(parent ? [`"parent":"sha256:${parent}"`] : [])];
  const sorted = members.flatMap((member) => member.split('\n')).sort();
  const folder = createHash('sha256')
    .update(`{${sorted.join(',')}}`)
    .digest('hex');
  const json = `{"id":"${folder}",${parent ? `"parent":"${parent}",` : ''}${text.split('\n').join(',')}}`;
  return { folder, json: Buffer.from(json) };
}

const PLAIN = '"created":"1970-01-01T00:00:00Z"\n"container_config":{"Hostname":"","Labels":null}';

describe('the layers of a legacy archive', () => {
  it('are told by the json of a real engine, each to its place', async () => {
    const files = await filesOf(fixture('docker20-overlay2.tar'));
    const layers = new LegacyLayers(DOCKER20.diffIds);
    const folders = [...files.keys()].filter((name) => name.endsWith('/layer.tar')).map((name) => name.split('/')[0]!);
    for (const folder of folders) layers.read(folder, files.get(`${folder}/json`)!);
    const told = folders.map((folder) => [folder, layers.diffIdOf(folder)] as const);
    const plain = told.filter(([folder]) => files.get(`${folder}/layer.tar`)!.length > 0);
    expect(plain).toHaveLength(3);
    for (const [folder, diffId] of plain) expect(diffId).toBe(digestOf(files.get(`${folder}/layer.tar`)!));
    expect(new Set(told.map(([, diffId]) => diffId))).toEqual(new Set(DOCKER20.diffIds));
  });

  it.each([
    ['plain words', '"author":"team"'],
    ['letters that Go escapes', '"author":"a \\u003cteam@example.com\\u003e \\u0026 co"'],
    ['letters beyond ASCII', '"author":"Zoë \\u2028 東京"'],
    ['numbers', '"config":{"Healthcheck":{"Interval":30000000000}}'],
    ['an architecture and variant', '"architecture":"arm"\n"variant":"v7"'],
  ])('are told whatever the config has: %s', (_, member) => {
    const chainIds = chainIdsOf(DIFF_IDS);
    const base = layerOf(PLAIN, chainIds[0]!);
    const middle = layerOf(PLAIN, chainIds[1]!, base.folder);
    const top = layerOf(`${member}\n${PLAIN}`, chainIds[2]!, middle.folder);
    const layers = new LegacyLayers(DIFF_IDS);
    for (const { folder, json } of [top, base]) layers.read(folder, json);
    expect(layers.diffIdOf(top.folder)).toBe(DIFF_IDS[2]);
    expect(layers.diffIdOf(base.folder)).toBe(DIFF_IDS[0]);
  });

  it.each([
    ['of another image', (json: string) => json.replace('1970', '1971')],
    ['that is no JSON', () => '{"id":'],
    ['that is no object', () => 'null'],
    ['of another parent', (json: string) => json.replace('{', `{"parent":"${'0'.repeat(64)}",`)],
  ])('are not believed by a json %s', (_, change) => {
    const { folder, json } = layerOf(PLAIN, chainIdsOf(DIFF_IDS)[0]!);
    const layers = new LegacyLayers(DIFF_IDS);
    layers.read(folder, Buffer.from(change(json.toString('utf8'))));
    expect(layers.diffIdOf(folder)).toBeUndefined();
  });

  it('are told by what is left, when only one is', () => {
    const chainIds = chainIdsOf(DIFF_IDS);
    const base = layerOf(PLAIN, chainIds[0]!);
    const middle = layerOf(PLAIN, chainIds[1]!, base.folder);
    const layers = new LegacyLayers(DIFF_IDS);
    layers.read(base.folder, base.json);
    expect(layers.diffIdOf('unknown')).toBeUndefined();
    layers.read(middle.folder, middle.json);
    expect(layers.diffIdOf('unknown')).toBe(DIFF_IDS[2]);
    expect(new LegacyLayers([DIFF_IDS[0], DIFF_IDS[0]]).diffIdOf('l')).toBe(DIFF_IDS[0]);
    expect(new LegacyLayers([]).diffIdOf('l')).toBeUndefined();
  });
});
