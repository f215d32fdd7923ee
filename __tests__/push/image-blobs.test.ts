import { describe, expect, it } from 'vitest';
import { digestOf as digestOfBytes } from '../../src/oci/types.ts';
import { BlobNames, dockerfileStep } from '../../src/push/image-blobs.ts';

const digestOf = (text: string) => digestOfBytes(Buffer.from(text));
const DIFF_IDS = [digestOf('a'), digestOf('b')];
const short = (digest: string) => digest.slice(7, 19);

const composedOf = (history: unknown) => {
  const config = Buffer.from(
    JSON.stringify({ architecture: 'amd64', os: 'linux', rootfs: { type: 'layers', diff_ids: DIFF_IDS }, history }),
  );
  return { kind: 'composed' as const, config, diffIds: DIFF_IDS };
};

describe('the name of a layer', () => {
  it('is the same before its image is read, after it, and for the blob that was made of it', () => {
    const names = new BlobNames();
    names.addLayers(DIFF_IDS);
    const name = names.nameOf({ key: DIFF_IDS[1]! });
    expect(name).toBe(`layer 2/2 ${short(DIFF_IDS[1]!)}`);
    names.addTree(composedOf([]));
    names.addBlob(digestOf('compressed'), DIFF_IDS[1]!);
    expect(names.describe({ digest: digestOf('compressed') }).name).toBe(name);
    expect(names.describe({ digest: digestOf('other'), diffId: DIFF_IDS[1]! }).name).toBe(name);
  });

  it('once told stays, though more is learnt later', () => {
    const names = new BlobNames();
    const name = names.nameOf({ key: DIFF_IDS[0]! });
    expect(name).toBe(`blob ${short(DIFF_IDS[0]!)}`);
    names.addTree(composedOf([]));
    expect(names.nameOf({ key: DIFF_IDS[0]! })).toBe(name);
    expect(names.describe({ digest: DIFF_IDS[0]! }).name).toBe(name);
  });
});

describe('the step of a layer', () => {
  it('is that of the history without the steps that made none', () => {
    const names = new BlobNames();
    names.addTree(
      composedOf([
        { created_by: '/bin/sh -c #(nop) ADD file:1 in / ' },
        { created_by: 'ENV A=b', empty_layer: true },
        { created_by: 'RUN /bin/sh -c make # buildkit' },
      ]),
    );
    expect(DIFF_IDS.map((diffId) => names.describe({ digest: diffId }).createdBy)).toEqual([
      'ADD file:1 in /',
      'RUN make',
    ]);
  });

  it.each([[undefined], ['text'], [[]], [[null, 7]], [[{ created_by: 'only one' }]], [[{}, {}, {}]]])(
    'is not guessed from a history of %j',
    (history) => {
      const names = new BlobNames();
      names.addTree(composedOf(history));
      expect(names.describe({ digest: DIFF_IDS[0]! })).not.toHaveProperty('createdBy');
    },
  );

  it.each([
    ['RUN |2 TOKEN=a b VERSION=1 /bin/sh -c curl x | tar xz # buildkit', 'RUN curl x | tar xz'],
    ['|1 A=b /bin/sh -c make', 'RUN make'],
    ['/bin/sh -c apt-get update', 'RUN apt-get update'],
    ['RUN /bin/bash -o pipefail -ec make all # buildkit', 'RUN make all'],
    ['/bin/sh -c #(nop) COPY file:ab in /app ', 'COPY file:ab in /app'],
    ['COPY /src /app # buildkit', 'COPY /src /app'],
    ['COPY --from=build /bin/sh -c /x # buildkit', 'COPY --from=build /bin/sh -c /x'],
    ['bazel build ...', 'bazel build ...'],
    ['', ''],
  ])('%s is %s', (createdBy, step) => expect(dockerfileStep(createdBy)).toBe(step));
});
