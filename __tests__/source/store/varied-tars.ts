/** Tars of everything that a layer may hold and a store may get wrong. */
import { mkdirSync, truncateSync, writeFileSync } from 'node:fs';
import { link, open, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Pack, pack } from 'tar-stream';
import { run } from '../../support/real/processes.ts';

type Entry = Parameters<Pack['entry']>[0] & { readonly body?: string | Buffer };

/** A tar of entries, as tar-stream writes them. */
export const tarOf = async (entries: readonly Entry[]): Promise<Buffer> => {
  const tar = pack();
  for (const { body, ...headers } of entries) tar.entry(headers, body ?? Buffer.alloc(0));
  tar.finalize();
  const chunks: Buffer[] = [];
  for await (const chunk of tar) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
};

const file = (name: string, body: string | Buffer, extra: Partial<Entry> = {}): Entry => ({
  name,
  body,
  mode: 0o644,
  mtime: new Date(1_700_000_000_000),
  ...extra,
});

const folder = (name: string): Entry => ({ name, type: 'directory', mode: 0o755 });

/** Many files, most of them small, of all sizes around those at which reading changes. */
export const manyFiles = (count: number): Promise<Buffer> => {
  const sizes = [0, 1, 511, 512, 513, 700, 4095, 65_536, 65_537];
  const entries = Array.from({ length: count }, (_, i) => {
    const size = i % 1000 < sizes.length ? sizes[i % 1000]! : i % 900;
    return file(`f/${i % 211}/file-${i}`, Buffer.alloc(size, `${i} `));
  });
  return tarOf(entries);
};

/** Tars by what is special in them. */
export const variedTars = async (work: string): Promise<Record<string, Buffer>> => ({
  'hard links': await tarOf([
    file('a/first', 'one content, three names'),
    { name: 'a/second', type: 'link', linkname: 'a/first' },
    folder('b/'),
    { name: 'b/third', type: 'link', linkname: 'a/first' },
    file('b/own', 'x'.repeat(3000)),
  ]),
  'symlinks that lead out': await tarOf([
    { name: 'etc', type: 'symlink', linkname: '/etc' },
    { name: 'up', type: 'symlink', linkname: '../../../..' },
    file('plain', 'plain'),
  ]),
  xattrs: await tarOf([
    file('with-xattr', 'body', { pax: { 'SCHILY.xattr.user.note': 'a note', comment: 'kept verbatim' } }),
    file('capable', 'body 2', { pax: { 'SCHILY.xattr.user.big': 'v'.repeat(2000) } }),
  ]),
  'devices and pipes': await tarOf([
    { name: 'dev/null', type: 'character-device', devmajor: 1, devminor: 3, mode: 0o666 },
    { name: 'dev/loop', type: 'block-device', devmajor: 7, devminor: 0, mode: 0o600 },
    { name: 'dev/pipe', type: 'fifo', mode: 0o600 },
    file('dev/file', 'not a device'),
  ]),
  'what whiteouts hide': await tarOf([
    file('opaque/old', 'hidden'),
    file('gone/file', 'hidden'),
    file('top', 'hidden'),
  ]),
  whiteouts: await tarOf([
    folder('opaque/'),
    file('opaque/.wh..wh..opq', ''),
    file('opaque/new', 'new'),
    file('gone/.wh.file', ''),
    file('.wh.top', ''),
    file('stays', 'stays'),
  ]),
  'long names': await tarOf([
    file(`${'d'.repeat(200)}/${'e'.repeat(200)}/${'f'.repeat(250)}`, 'long'),
    file(`${'schön-日本-'.repeat(9)}/ファイル`, 'UTF-8'),
    file('new\nline "quote" \\back <&>', 'odd letters'),
  ]),
  'names with dots and slashes': await tarOf([
    folder('./'),
    file('./one', '1'),
    file('a//two', '2'),
    file('a/./three', '3'),
    file('...', '4'),
    file('/absolute/five', '5'),
  ]),
  'modes without reading': await tarOf([file('secret', 'of root', { mode: 0 }), file('suid', 'x', { mode: 0o4755 })]),
  'an empty layer': await tarOf([]),
  'sparse files': await sparse(work, 'plain', []),
  'names that are not UTF-8': await notUtf8(work),
});

/** Sparse entries as PAX has them: the tar lacks the holes, and tar-split does not know it. GNU's own form (type S) is refused by engines. */
export const paxSparse = (work: string): Promise<Buffer> => sparse(work, 'posix', ['--sparse', '--format=posix']);

async function sparse(work: string, name: string, options: readonly string[]): Promise<Buffer> {
  const source = join(work, `sparse-${name}`);
  mkdirSync(source, { recursive: true });
  const hole = await open(join(source, 'hole'), 'w');
  await hole.write(Buffer.from('start'), 0, 5, 0);
  await hole.write(Buffer.from('end'), 0, 3, 3_000_000);
  await hole.close();
  writeFileSync(join(source, 'all-hole'), '');
  truncateSync(join(source, 'all-hole'), 1_000_000);
  return gnuTar(work, source, options);
}

async function notUtf8(work: string): Promise<Buffer> {
  const source = join(work, 'latin1');
  mkdirSync(source);
  const at = (...bytes: number[]) => Buffer.concat([Buffer.from(`${source}/`), Buffer.from(bytes)]);
  mkdirSync(at(0xe4, 0xff));
  writeFileSync(at(0xe4, 0xff, 0x2f, 0x80, 0x62), 'below a folder that is not UTF-8');
  writeFileSync(at(0xfc, 0x62, 0x65, 0x72), 'latin1');
  writeFileSync(at(0xc3, 0xbc), 'UTF-8');
  await link(at(0xfc, 0x62, 0x65, 0x72), at(0xfe));
  return gnuTar(work, source, ['--format=gnu']);
}

/** A tar of GNU tar's own, which keeps bytes of names as they are. */
async function gnuTar(work: string, source: string, options: readonly string[]): Promise<Buffer> {
  const target = join(work, 'made.tar');
  await run('tar', ['-C', source, ...options, '-cf', target, '.']);
  return readFile(target);
}

/** A docker-archive with one image of these layers. https://github.com/moby/moby/blob/v28.0.0/image/spec/spec.md */
export const archiveOf = async (layers: readonly Buffer[], config: Buffer, name: string): Promise<Buffer> => {
  const manifest = [{ Config: 'config.json', RepoTags: [name], Layers: layers.map((_, i) => `${i}/layer.tar`) }];
  return tarOf([
    ...layers.map((body, i) => file(`${i}/layer.tar`, body)),
    file('config.json', config),
    file('manifest.json', JSON.stringify(manifest)),
  ]);
};
