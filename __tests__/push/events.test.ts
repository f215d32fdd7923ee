import { describe, expect, it, onTestFinished, vi } from 'vitest';
import { digestOf, MediaType } from '../../src/oci/types.ts';
import { type BlobRecord, PushStats } from '../../src/push/events.ts';

const record = (change: Partial<BlobRecord> = {}): BlobRecord => ({
  digest: digestOf(Buffer.from('blob')),
  size: 100,
  mediaType: MediaType.ociLayerGzip,
  registry: 'r.example',
  what: 'uploaded',
  fromCache: false,
  bytesSent: 100,
  bytesResent: 0,
  retries: 1,
  seconds: 2,
  ...change,
});

describe('PushStats', () => {
  it('has a line for each blob at each registry', () => {
    const ledger = new PushStats();
    ledger.enter(record());
    ledger.enter(record({ registry: 'other.example', what: 'exists', bytesSent: 0 }));
    expect(ledger.blobs.map(({ registry, what }) => [registry, what])).toEqual([
      ['r.example', 'uploaded'],
      ['other.example', 'exists'],
    ]);
  });

  it('does not forget what was sent when the blob is found to be there later', () => {
    const ledger = new PushStats();
    ledger.enter(record());
    ledger.enter(record({ what: 'exists', bytesSent: 0, retries: 0, seconds: 0 }));
    expect(ledger.blobs).toEqual([record()]);
  });

  it('adds up what was sent again', () => {
    const ledger = new PushStats();
    ledger.enter(record({ what: 'exists', bytesSent: 0, retries: 0, seconds: 0 }));
    ledger.enter(record({ bytesSent: 130, bytesResent: 30 }));
    ledger.enter(record({ bytesSent: 100 }));
    expect(ledger.blobs).toMatchObject([{ what: 'uploaded', bytesSent: 230, bytesResent: 30, retries: 2, seconds: 4 }]);
  });

  it('takes the time of a phase, also of one that fails', async () => {
    vi.useFakeTimers({ toFake: ['hrtime'] });
    onTestFinished(() => void vi.useRealTimers());
    const ledger = new PushStats();
    const work = async () => {
      vi.advanceTimersByTime(30);
      throw new Error('no');
    };
    await expect(ledger.time('manifest', work)).rejects.toThrow('no');
    ledger.addMaking({ waitingForInputMs: 1500, compressingMs: 2000.4, heldBackMs: 0 });
    ledger.addSending({ sendingMs: 250, waitedMs: 1 });
    const seconds = ledger.close();
    expect(seconds.manifest).toBeCloseTo(0.03);
    expect(seconds.total).toBeCloseTo(0.03);
    expect(seconds).toMatchObject({ waitingForExport: 1.5, compressing: 2, sending: 0.25, waitingForRegistry: 0.001 });
  });
});
