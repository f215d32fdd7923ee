/** Each fault as a client meets it, in front of the embedded registry. */
import { randomBytes } from 'node:crypto';
import { Agent, request } from 'node:http';
import { setImmediate as turn } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { type Ask, ask, closing, locationOf, openSession, type Reply, sendBlob, sendChunk } from '../registry/ask.ts';
import { type Registry, startRegistry } from '../registry/server.ts';
import { sha256 } from '../registry/store.ts';
import * as faults from './faults.ts';
import { type FaultProxy, startFaultProxy } from './proxy.ts';
import type { LinkClock } from './shaping.ts';

const REPO = 'team/app';
const EMPTY = Buffer.alloc(0);
let registry: Registry;
let proxy: FaultProxy;

beforeAll(async () => {
  registry = await startRegistry();
});
beforeEach(async () => {
  await registry.reset();
  proxy = await startFaultProxy({ target: registry.url });
});
afterEach(() => proxy.close());
afterAll(() => registry.close());

const chunk = (location: string, bytes: Buffer, start = 0, more: Ask = {}): Promise<Reply> =>
  sendChunk(location, bytes, start, more);

/** How many bytes the registry has of a session. */
async function held(location: string): Promise<number> {
  const { range } = (await ask('GET', location)).headers;
  return range === '0-0' ? 0 : Number(range?.split('-')[1]) + 1;
}

/** A link's clock whose time passes when somebody waits for it. */
function clockByHand(): LinkClock & { readonly slept: readonly number[] } {
  let time = 0;
  const slept: number[] = [];
  const sleep = async (ms: number) => {
    slept.push(ms);
    const until = time + ms;
    await turn();
    time = Math.max(time, until);
  };
  return { now: () => time, sleep, slept };
}

describe('without faults', () => {
  it('passes a push and a pull through, Content-Length as sent, and counts', async () => {
    const bytes = randomBytes(500_000);
    expect((await sendBlob(proxy.url, REPO, bytes, 200_000)).status).toBe(201);
    expect((await ask('GET', `${proxy.url}/v2/${REPO}/blobs/${sha256(bytes)}`)).body).toEqual(bytes);
    const patches = registry.requests.filter((record) => record.step === 'upload-patch');
    expect(patches.map((record) => record.headers['content-length'])).toEqual(['200000', '200000', '100000']);
    expect(patches.every((record) => record.headers['transfer-encoding'] === undefined)).toBe(true);
    expect(proxy.stats).toMatchObject({ requests: 6, bodyBytes: 500_000, faults: 0 });
    expect(proxy.stats.bySteps.get('upload-patch')).toBe(3);
  });

  it('passes a body without a length on as such', async () => {
    const bytes = randomBytes(1000);
    const target = closing(await openSession(proxy.url, REPO), sha256(bytes));
    const reply = await ask('PUT', target, { body: bytes, headers: { 'Transfer-Encoding': 'chunked' } });
    expect(reply.status).toBe(201);
    expect(registry.requests.at(-1)?.headers['transfer-encoding']).toBe('chunked');
  });

  it('keeps Host, so that absolute Locations and realms lead through it', async () => {
    for (const profile of ['distribution2', 'hub'] as const) {
      const other = await startRegistry({ profile });
      const front = await startFaultProxy({ target: other.host });
      const reply = await ask('POST', `${front.url}/v2/${REPO}/blobs/uploads/`);
      const told = reply.headers.location ?? reply.headers['www-authenticate'];
      expect(told).toContain(`http://${front.host}/`);
      await Promise.all([front.close(), other.close()]);
    }
  });

  it('serves many requests on one connection', async () => {
    const agent = new Agent({ keepAlive: true, maxSockets: 1 });
    const get = () =>
      new Promise<number>((resolve, reject) => {
        const sent = request(`${proxy.url}/v2/`, { agent }, (response) => {
          response.resume();
          response.once('end', () => resolve(response.statusCode ?? 0));
        });
        sent.once('error', reject);
        sent.end();
      });
    for (let n = 0; n < 20; n += 1) expect(await get()).toBe(200);
    expect(proxy.stats).toMatchObject({ connections: 1, requests: 20 });
    agent.destroy();
  });

  it('passes an early 413 of the target on', async () => {
    const limited = await startRegistry({ profile: 'limited', limit: 1000 });
    const front = await startFaultProxy({ target: limited.url });
    const reply = await chunk(await openSession(front.url, REPO), randomBytes(5_000_000));
    expect([reply.status, reply.headers['content-type']]).toEqual([413, 'text/html']);
    await Promise.all([front.close(), limited.close()]);
  });

  it('hangs up when the target does, or is not there', async () => {
    const gone = await startRegistry();
    const front = await startFaultProxy({ target: gone.url });
    await gone.close();
    await expect(ask('GET', `${front.url}/v2/`)).rejects.toThrow();
    await front.close();
  });

  it('ends the connection to the target when the client goes away', async () => {
    const location = await openSession(proxy.url, REPO);
    const bytes = randomBytes(2_000_000);
    await expect(chunk(location, bytes, 0, { cutAfter: 1_000_000 })).rejects.toThrow();
    expect(await held(location)).toBeLessThanOrEqual(1_000_000);
    expect(registry.requests.find((record) => record.step === 'upload-patch')?.broken).toBe(true);
  });
});

describe('faults', () => {
  it('cuts a body after so many bytes', async () => {
    const location = await openSession(proxy.url, REPO);
    const rule = proxy.faults.add({ step: 'upload-patch', fault: faults.cutAfter(123_456) });
    const bytes = randomBytes(300_000);
    await expect(chunk(location, bytes)).rejects.toThrow();
    expect([rule.hits, await held(location)]).toEqual([1, 123_456]);
    expect((await chunk(location, bytes.subarray(123_456), 123_456)).status).toBe(202);
  });

  it('cuts at byte 0 of a body, the head having passed', async () => {
    const location = await openSession(proxy.url, REPO);
    proxy.faults.add({ step: 'upload-patch', fault: faults.cutAfter(0) });
    await expect(chunk(location, randomBytes(1000))).rejects.toThrow();
    expect(await held(location)).toBe(0);
    expect(registry.requests.some((record) => record.step === 'upload-patch')).toBe(true);
  });

  it('drops an answer after the server took the request', async () => {
    const bytes = randomBytes(1000);
    const location = closing(await openSession(proxy.url, REPO), sha256(bytes));
    proxy.faults.add({ step: 'upload-put', fault: faults.dropAnswer });
    await expect(ask('PUT', location, { body: bytes })).rejects.toThrow();
    expect(registry.blobs(REPO)).toEqual([sha256(bytes)]);
  });

  it('resets a connection before the target sees the request', async () => {
    proxy.faults.add({ step: 'upload-post', fault: faults.resetBefore });
    await expect(openSession(proxy.url, REPO)).rejects.toThrow(/ECONNRESET|hang up/);
    expect(registry.requests).toHaveLength(0);
  });

  it.each(['before', 'after'] as const)('hangs %s the target took the request', async (when) => {
    proxy.faults.add({ step: 'upload-post', fault: faults.hang(when) });
    let ended = false;
    const outcome = openSession(proxy.url, REPO)
      .catch(() => {})
      .finally(() => {
        ended = true;
      });
    await expect.poll(() => proxy.stats.faults).toBe(1);
    if (when === 'after') await expect.poll(() => registry.openSessions()).toBe(1);
    // Another request goes by, to its end.
    await openSession(proxy.url, REPO);
    expect([ended, registry.openSessions()]).toEqual([false, when === 'after' ? 2 : 1]);
    await proxy.close();
    await outcome;
    expect(ended).toBe(true);
  });

  it('slows a body down and lets an answer wait', async () => {
    const clock = clockByHand();
    const front = await startFaultProxy({ target: registry.url, clock });
    const location = await openSession(front.url, REPO);
    front.faults.add({ step: 'upload-patch', fault: faults.slow({ bytesPerSecond: 1_000_000, answerAfter: 100 }) });
    expect((await chunk(location, randomBytes(300_000))).status).toBe(202);
    expect(Math.abs(clock.now() - 400)).toBeLessThan(3);
    await front.close();
  });

  it('answers 413 as a page, early, and closes the connection', async () => {
    const location = await openSession(proxy.url, REPO);
    proxy.faults.add({ step: 'upload-patch', fault: faults.tooLarge() });
    const reply = await chunk(location, randomBytes(8_000_000));
    expect([reply.status, reply.headers['content-type'], reply.headers.connection]).toEqual([
      413,
      'text/html',
      'close',
    ]);
    expect(await held(location)).toBe(0);
  });

  it('answers 416 with the Location and Range of the target, or without', async () => {
    const location = await openSession(proxy.url, REPO);
    await chunk(location, randomBytes(700));
    proxy.faults.add({ step: 'upload-patch', fault: faults.outOfRange(true) });
    const told = await chunk(location, randomBytes(10), 700);
    expect([told.status, told.headers.range, locationOf(told, location)]).toEqual([416, '0-699', location]);
    proxy.faults.add({ step: 'upload-patch', fault: faults.outOfRange(false) });
    const bare = await chunk(location, randomBytes(10), 700);
    expect([bare.status, bare.headers.range, bare.headers.location]).toEqual([416, undefined, undefined]);
  });

  it('tells the newest state of a registry that changes its Locations', async () => {
    const other = await startRegistry({ profile: 'serverless', minChunk: 10 });
    const front = await startFaultProxy({ target: other.url });
    front.faults.add({ step: 'upload-patch', fault: faults.outOfRange(true) });
    const location = await openSession(front.url, REPO);
    const told = await chunk(location, randomBytes(10));
    expect([told.headers.range, locationOf(told, location)]).toEqual(['0--1', location]);
    await Promise.all([front.close(), other.close()]);
  });

  it('answers 429 with Retry-After in seconds and as a date', async () => {
    const date = new Date('2031-01-02T03:04:05Z');
    proxy.faults.add({ step: 'blob-head', fault: faults.tooMany(3) });
    proxy.faults.add({ step: 'ping', fault: faults.tooMany(date) });
    const head = await ask('HEAD', `${proxy.url}/v2/${REPO}/blobs/${sha256(EMPTY)}`);
    expect([head.status, head.headers['retry-after']]).toEqual([429, '3']);
    const ping = await ask('GET', `${proxy.url}/v2/`);
    expect([ping.status, ping.code, ping.headers['retry-after']]).toEqual([
      429,
      'TOOMANYREQUESTS',
      'Thu, 02 Jan 2031 03:04:05 GMT',
    ]);
  });

  it.each([500, 502, 503, 504, 520, 521, 522, 523, 524])('answers %i in place of the target', async (status) => {
    proxy.faults.add({ step: 'upload-post', fault: faults.gatewayError(status) });
    const reply = await ask('POST', `${proxy.url}/v2/${REPO}/blobs/uploads/`);
    expect([reply.status, registry.openSessions()]).toEqual([status, 0]);
  });

  it('answers 524 after the target took the request', async () => {
    const bytes = randomBytes(1000);
    const location = closing(await openSession(proxy.url, REPO), sha256(bytes));
    proxy.faults.add({ step: 'upload-put', fault: faults.gatewayError(524, 'after') });
    expect((await ask('PUT', location, { body: bytes })).status).toBe(524);
    expect(registry.blobs(REPO)).toEqual([sha256(bytes)]);
  });

  it('answers in the words of a registry', async () => {
    const fault = faults.registryError(403, 'DENIED', 'requested access to the resource is denied');
    proxy.faults.add({ step: 'manifest-put', fault });
    const reply = await ask('PUT', `${proxy.url}/v2/${REPO}/manifests/v1`, { body: EMPTY });
    expect([reply.status, reply.code]).toEqual([403, 'DENIED']);
  });

  it("lets credentials run out: the target's own 401", async () => {
    const login = { username: 'robot', password: 'secret' };
    const locked = await startRegistry({ auth: { basic: login } });
    const front = await startFaultProxy({ target: locked.url });
    const headers = { Authorization: `Basic ${Buffer.from('robot:secret').toString('base64')}` };
    front.faults.add({ step: 'ping', nth: 2, fault: faults.expireToken });
    const statuses = [];
    for (let n = 0; n < 3; n += 1) statuses.push((await ask('GET', `${front.url}/v2/`, { headers })).status);
    expect(statuses).toEqual([200, 401, 200]);
    await Promise.all([front.close(), locked.close()]);
  });

  it.each([0, 10, 80])('truncates an answer after %i bytes', async (bytes) => {
    proxy.faults.add({ step: 'upload-post', fault: faults.truncateAnswer(bytes) });
    await expect(openSession(proxy.url, REPO)).rejects.toThrow();
    expect(registry.openSessions()).toBe(1);
  });
});

describe('rules', () => {
  it('befall the nth request, so many times, where a condition holds', async () => {
    const fault = faults.gatewayError(503);
    const rule = proxy.faults.add({ step: ['ping', 'tags'], nth: 2, times: 2, fault });
    const statuses = [];
    for (let n = 0; n < 5; n += 1) statuses.push((await ask('GET', `${proxy.url}/v2/`)).status);
    expect(statuses).toEqual([200, 503, 503, 200, 200]);
    expect([rule.matches, rule.hits, proxy.stats.faults]).toEqual([5, 2, 2]);
    rule.remove();
    proxy.faults.add({ step: 'upload-patch', where: ({ range }) => range?.start === 100, fault });
    const location = await openSession(proxy.url, REPO);
    expect((await chunk(location, randomBytes(100))).status).toBe(202);
    expect((await chunk(location, randomBytes(100), 100)).status).toBe(503);
    expect((await chunk(location, randomBytes(100), 100)).status).toBe(202);
    proxy.faults.add({ step: 'ping', times: Number.POSITIVE_INFINITY, fault });
    proxy.faults.clear();
    expect((await ask('GET', `${proxy.url}/v2/`)).status).toBe(200);
  });
});

describe('random cuts', () => {
  /** Sends one PATCH after another until all bytes are there; gives the tries and what was sent. */
  async function sendStubbornly(front: FaultProxy, bytes: Buffer): Promise<number> {
    const location = await openSession(front.url, REPO);
    let tries = 0;
    for (let start = 0; start < bytes.length; start = await held(location)) {
      tries += 1;
      await chunk(location, bytes.subarray(start, start + 100_000), start).catch(() => {});
    }
    expect((await ask('PUT', closing(location, sha256(bytes)), { body: EMPTY })).status).toBe(201);
    return tries;
  }

  it('makes exactly the cuts that were planned, the same ones for the same seed', async () => {
    const bytes = randomBytes(1_000_000);
    const seen: number[][] = [];
    for (const seed of [7, 7, 8]) {
      const front = await startFaultProxy({ target: registry.url, seed });
      front.faults.cutRandomly({ cuts: 5, within: bytes.length });
      await sendStubbornly(front, bytes);
      expect(front.faults.cuts()).toEqual({ made: 5, pending: 0 });
      const broken = registry.requests.filter((record) => record.broken);
      seen.push(broken.map((record) => record.bytes));
      expect(broken).toHaveLength(5);
      await front.close();
      await registry.reset();
    }
    expect(seen[1]).toEqual(seen[0]);
    expect(seen[2]).not.toEqual(seen[0]);
  });

  it('drops answers too when it is asked to', async () => {
    const bytes = randomBytes(1_000_000);
    proxy.faults.cutRandomly({ cuts: 8, within: bytes.length, answersToo: true });
    await sendStubbornly(proxy, bytes);
    expect(proxy.faults.cuts()).toEqual({ made: 8, pending: 0 });
    expect(registry.requests.filter((record) => record.broken).length).toBeLessThan(8);
    expect(registry.blobs(REPO)).toEqual([sha256(bytes)]);
  });
});

describe('links', () => {
  it('shares its bandwidth over all connections', async () => {
    const clock = clockByHand();
    const front = await startFaultProxy({ target: registry.url, bandwidth: 4_000_000, clock });
    const blobs = Array.from({ length: 4 }, () => randomBytes(500_000));
    await Promise.all(blobs.map((bytes) => sendBlob(front.url, REPO, bytes, 500_000)));
    expect(Math.abs(clock.now() - 500)).toBeLessThan(3);
    await front.close();
  });

  it('lets every answer wait a round trip, and a new connection one more', async () => {
    const clock = clockByHand();
    const front = await startFaultProxy({ target: registry.url, roundTripMs: 100, clock });
    await ask('GET', `${front.url}/v2/`);
    expect(clock.slept).toEqual([100, 100]);
    await front.close();
  });
});
