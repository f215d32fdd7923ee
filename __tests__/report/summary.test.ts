import { describe, expect, it } from 'vitest';
import type { Digest } from '../../src/oci/types.ts';
import type { Metadata, NamedBlob, PushResult } from '../../src/push/result.ts';
import { code, summaryOf, table } from '../../src/report/summary.ts';
import { HOSTILE_TEXTS } from '../support/hostile-text.ts';

const HOST = 'registry.example.com';
const digest = (letter: string): Digest => `sha256:${letter.repeat(64)}`;

const record = (letter: string, changes: Partial<NamedBlob> = {}): NamedBlob => ({
  name: `layer ${letter}/4 ${letter.repeat(12)}`,
  digest: digest(letter),
  size: 10_000_000,
  mediaType: 'application/vnd.oci.image.layer.v1.tar+gzip',
  registry: HOST,
  what: 'uploaded',
  fromCache: false,
  bytesSent: 10_000_000,
  bytesResent: 0,
  retries: 0,
  seconds: 2.5,
  ...changes,
});

const seconds = {
  total: 61,
  resolve: 0,
  transfer: 0,
  manifest: 0,
  waitingForExport: 0,
  compressing: 0,
  heldBack: 0,
  sending: 0,
  waitingForRegistry: 0,
};

const result = (metadata: Partial<Metadata> = {}, rest: Partial<PushResult> = {}): PushResult => ({
  digest: digest('d'),
  imageId: digest('c'),
  image: `${HOST}/team/app@${digest('d')}`,
  savePlan: undefined,
  digests: {},
  changed: true,
  failures: [],
  ...rest,
  metadata: {
    tags: [{ reference: `${HOST}/team/app:1`, digest: digest('d') }],
    blobs: [],
    bytesSent: 0,
    bytesResent: 0,
    export: 'docker save',
    limits: {},
    spoolPeak: 0,
    seconds,
    ...metadata,
  },
});

const BLOBS = [
  record('1', { retries: 2, bytesResent: 4_000_000 }),
  record('2', { what: 'exists', size: 90_000_000, bytesSent: 0, seconds: 0, createdBy: 'RUN make | tee log' }),
  record('3', { what: 'mounted', size: 5_000_000, bytesSent: 0, seconds: 0 }),
  record('4', { fromCache: true, size: 7_000_000 }),
];

describe('summaryOf', () => {
  it('is this Markdown', () => {
    const metadata = {
      blobs: BLOBS,
      bytesSent: 21_000_000,
      bytesResent: 4_000_000,
      limits: { [HOST]: 49_807_360 },
      seconds: { ...seconds, compressing: 10, sending: 30 },
    };
    expect(summaryOf(result(metadata))).toBe(`### Chunked push

\`\`\`
${HOST}/team/app@${digest('d')}
\`\`\`

| tag | digest |
| --- | --- |
| \`${HOST}/team/app:1\` | \`${digest('d')}\` |

| layer | size | what happened | time | made by |
| --- | --: | --- | --: | --- |
| \`layer 2/4 222222222222\` | 90&nbsp;MB | existed |  | \`RUN make \\| tee log\` |
| \`layer 1/4 111111111111\` | 10&nbsp;MB | uploaded, 2 retries | 2.5&nbsp;s |  |
| \`layer 4/4 444444444444\` | 7&nbsp;MB | uploaded from the cache | 2.5&nbsp;s |  |
| \`layer 3/4 333333333333\` | 5&nbsp;MB | mounted |  |  |

\`\`\`
Bytes of the image
  uploaded                 ███···························   9%  10 MB
  uploaded from the cache  ██····························   6%  7 MB
  existed                  ████████████████████████······  80%  90 MB
  mounted                  █·····························   4%  5 MB

Where the time went (summed over layers, which overlap)
  compressing  ████████······················  25%  10 s
  sending      ███████████████████████·······  75%  30 s
\`\`\`

- 21 MB sent in 1 min 1 s, 4 MB of them again after failures
- 95 MB did not have to be sent: 90 MB the registry had, 5 MB were mounted from other repositories
- 7 MB came compressed out of the cache
- \`${HOST}\` takes requests of at most 49.8 MB (\`chunk-size: 49807360\`)
`);
  });

  it('has no bar of one part', () => {
    expect(summaryOf(result({ blobs: [record('1')] }))).not.toContain('█');
  });

  it('names registries where there are several', () => {
    const text = summaryOf(result({ blobs: [record('1'), record('1', { registry: 'other.example.com' })] }));
    expect(text).toContain('| time | registry |');
    expect(text).toContain('| `other.example.com` |');
  });

  it('says what failed, in a cell that no text can break', () => {
    const tags = [
      { reference: `${HOST}/team/app:1`, digest: digest('d') },
      { reference: 'other.example.com/app:1', error: 'Upload: 502 <html>|\n```' },
    ];
    const text = summaryOf(result({ tags }, { failures: [{ destination: 'other.example.com/app', error: 'x' }] }));
    expect(text).toContain('| `other.example.com/app:1` | ```` Upload: 502 <html>\\| ``` ```` |');
  });

  it('says when nothing was pushed, and when nothing was to be', () => {
    const tags = [{ reference: `${HOST}/team/app:1` }];
    const nothing = { image: undefined, digest: undefined };
    const failures = [{ destination: HOST, error: new Error('no') }];
    expect(summaryOf(result({ tags }, { ...nothing, failures }))).toContain('Nothing was pushed.');
    expect(summaryOf(result({ tags }, nothing))).toContain('Dry run: nothing was changed.');
  });

  it('is an overview, however many blobs there are', () => {
    const text = summaryOf(result({ blobs: Array.from({ length: 1000 }, () => record('1')) }));
    expect(text.split('\n').length).toBeLessThan(90);
    expect(text).toContain('… and 940 more blobs');
  });
});

describe('text from outside', () => {
  const texts = Object.values(HOSTILE_TEXTS);

  it('is code wherever it stands, and one cell', () => {
    for (const text of texts) {
      const [, , row = ''] = table(['a', 'b'], [[code(text), code(`x ${text}`)]]).split('\n');
      // A cell ends at a | with an even number of backslashes before it.
      expect([...row.matchAll(/(?<!\\)(?:\\\\)*\|/g)], text).toHaveLength(3);
      // Without code spans nothing is left.
      expect(row.replace(/(?<!`)(`+)(?!`).+?(?<!`)\1(?!`)/g, ''), text).toBe('|  |  |');
    }
  });

  it('is nowhere else in the summary', () => {
    const tags = texts.map((text) => ({ reference: text, error: text }));
    const blobs = texts.map((text) => record('1', { name: text, registry: text, createdBy: text }));
    const limits = Object.fromEntries(texts.map((text) => [text, 5]));
    const text = summaryOf(result({ tags, blobs, limits }, { image: texts.join(' ') }));
    const prose = text.replace(/^```\n[\s\S]*?^```$/gm, '').replace(/(?<!`)(`+)(?!`).+?(?<!`)\1(?!`)/g, '');
    expect(prose).not.toMatch(/evil|octocat|<|script|::|##\[|\[click/);
    expect(prose.match(/^#.*$/gm)).toEqual(['### Chunked push']);
  });
});

it('a summary of very many tags and layers fits into the 1 MiB that GitHub shows', () => {
  const tags = Array.from({ length: 20_000 }, (_, at) => ({
    reference: `${HOST}/team/app:${at}`,
    digest: digest('d'),
  }));
  const blobs = Array.from({ length: 5_000 }, () => record('a', { createdBy: '😀'.repeat(300) }));
  const text = summaryOf(result({ tags, blobs }));
  expect(Buffer.byteLength(text)).toBeLessThan(2 ** 20);
  expect(text).toContain('… and 19800 more tags');
  expect(text).toContain('… and 4940 more blobs');
  expect(text.isWellFormed()).toBe(true);
});
