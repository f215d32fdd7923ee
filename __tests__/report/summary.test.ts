import { describe, expect, it } from 'vitest';
import type { Digest } from '../../src/oci/types.ts';
import type { Metadata, PushResult } from '../../src/push/result.ts';
import type { BlobRecord } from '../../src/push/stats.ts';
import { summaryOf } from '../../src/report/summary.ts';

const HOST = 'registry.example.com';
const digest = (letter: string): Digest => `sha256:${letter.repeat(64)}`;

const record = (letter: string, changes: Partial<BlobRecord> = {}): BlobRecord => ({
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
  record('2', { what: 'exists', size: 90_000_000, bytesSent: 0, seconds: 0 }),
  record('3', { what: 'mounted', size: 5_000_000, bytesSent: 0, seconds: 0 }),
  record('4', { fromCache: true, size: 7_000_000 }),
];

describe('summaryOf', () => {
  it('is this Markdown', () => {
    const metadata = { blobs: BLOBS, bytesSent: 21_000_000, bytesResent: 4_000_000, limits: { [HOST]: 49_807_360 } };
    expect(summaryOf(result(metadata))).toBe(`### Chunked push

\`\`\`
${HOST}/team/app@${digest('d')}
\`\`\`

| tag | digest |
| --- | --- |
| ${HOST}/team/app:1 | \`${digest('d')}\` |

| blob | size | what happened | time | retries |
| --- | --- | --- | --- | --- |
| \`111111111111\` | 10 MB | uploaded | 2.5 s | 2 |
| \`222222222222\` | 90 MB | existed |  |  |
| \`333333333333\` | 5 MB | mounted |  |  |
| \`444444444444\` | 7 MB | uploaded from the cache | 2.5 s |  |

\`\`\`mermaid
pie title Bytes of this image
  "uploaded (10 MB)" : 10000000
  "uploaded from the cache (7 MB)" : 7000000
  "existed (90 MB)" : 90000000
  "mounted (5 MB)" : 5000000
\`\`\`

- 21 MB sent in 1 min 1 s, 4 MB of them again after failures
- 95 MB did not have to be sent
- 7 MB came compressed out of the cache
- ${HOST} takes requests of at most 49.8 MB (\`chunk-size: 49807360\`)
`);
  });

  it('has no pie of one slice', () => {
    expect(summaryOf(result({ blobs: [record('1')] }))).not.toContain('mermaid');
  });

  it('names registries where there are several', () => {
    const text = summaryOf(result({ blobs: [record('1'), record('1', { registry: 'other.example.com' })] }));
    expect(text).toContain('| retries | registry |');
    expect(text).toContain('|  | other.example.com |');
  });

  it('says what failed, in a cell that no text can break', () => {
    const tags = [
      { reference: `${HOST}/team/app:1`, digest: digest('d') },
      { reference: 'other.example.com/app:1', error: 'Upload: 502 <html>|\n```' },
    ];
    const text = summaryOf(result({ tags }, { failures: [{ destination: 'other.example.com/app', error: 'x' }] }));
    expect(text).toContain('| other.example.com/app:1 | Upload: 502 &lt;html>\\| ``` |');
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
