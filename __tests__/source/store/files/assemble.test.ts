import { describe, expect, it } from 'vitest';
import { type Segment, segmentsOf } from '../../../../src/source/store/files/assemble.ts';
import { StoreError } from '../../../../src/source/store/files/folder.ts';

const read = async (...chunks: (string | Buffer)[]): Promise<Segment[]> => {
  const pieces: Segment[] = [];
  async function* source() {
    for (const chunk of chunks) yield Buffer.from(chunk);
  }
  for await (const some of segmentsOf(source())) pieces.push(...some);
  return pieces;
};

const segment = (text: string) => `{"type":2,"payload":"${Buffer.from(text).toString('base64')}","position":0}\n`;

describe('tar-split', () => {
  it('gives segments and files in order, and leaves out files without content', async () => {
    const text = `${segment('head')}{"type":1,"name":"a/ä","size":5,"payload":"AAAAAAAAAAA=","position":1}\n${segment('x')}{"type":1,"name":"dir/","payload":null,"position":3}\n`;
    const pieces = await read(text);
    expect(pieces).toEqual([
      { bytes: Buffer.from('head') },
      { name: Buffer.from('a/ä').toString('latin1'), size: 5 },
      { bytes: Buffer.from('x') },
    ]);
  });

  it('keeps the bytes of names that are not UTF-8', async () => {
    const raw = Buffer.from([0x62, 0xff, 0xfe]);
    expect(await read(`{"type":1,"name_raw":"${raw.toString('base64')}","size":1}\n`)).toEqual([
      { name: raw.toString('latin1'), size: 1 },
    ]);
  });

  it('does not care where chunks end, nor for the last line feed', async () => {
    const text = Buffer.from(`${segment('one')}{"type":1,"name":"日本","size":7}\n${segment('two').trimEnd()}`);
    const whole = await read(text);
    expect(whole).toHaveLength(3);
    for (let cut = 1; cut < text.length; cut++) {
      expect(await read(text.subarray(0, cut), text.subarray(cut))).toEqual(whole);
    }
    expect(await read(...Array.from(text, (byte) => Buffer.from([byte])))).toEqual(whole);
  });

  it.each([
    ['no JSON', 'nonsense\n'],
    ['an unknown type', '{"type":3}\n'],
    ['a negative size', '{"type":1,"name":"a","size":-1}\n'],
    ['a broken size', '{"type":1,"name":"a","size":1.5}\n'],
  ])('refuses %s', async (_, text) => {
    await expect(read(text)).rejects.toThrow(StoreError);
  });
});
