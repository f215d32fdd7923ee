/** Reading blobs by ranges, listing tags, deleting manifests. */
import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { describe, expect, it, onTestFinished } from 'vitest';
import type { Digest } from '../../src/oci/types.ts';
import type { RegistryOptions } from '../../src/registry/registry.ts';
import type { Repository } from '../../src/registry/repository.ts';
import { dropAnswer, gatewayError, truncateAnswer } from '../support/fault-proxy/faults.ts';
import { startFaultProxy } from '../support/fault-proxy/proxy.ts';
import type { FaultRule } from '../support/fault-proxy/rules.ts';
import { type Registry, startRegistry } from '../support/registry/server.ts';
import { bytesOf, connect, digestOfBytes, MIB } from './upload/client.ts';

const { signal } = new AbortController();
const BLOB = bytesOf(3 * MIB + 17, 'to be read');
const DIGEST = digestOfBytes(BLOB);

/** Bytes of an answer's head in the embedded registry and its proxy: less than this. */
const HEAD_BYTES = 1000;

type Handle = (request: IncomingMessage, response: ServerResponse) => void;

/** A host that answers by hand. */
async function serve(handle: Handle): Promise<string> {
  const server = createServer(handle).listen(0, '127.0.0.1');
  await once(server, 'listening');
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  return `127.0.0.1:${(server.address() as AddressInfo).port}`;
}

function repositoryAt(host: string, options: Partial<RegistryOptions> = {}): Repository {
  const { registry } = connect(host, options);
  onTestFinished(() => registry.close());
  return registry.repository('team/app');
}

/** A registry that has the blob, behind a proxy with these faults. */
async function behind(...rules: FaultRule[]): Promise<{ repository: Repository; server: Registry }> {
  const server = await startRegistry({ profile: 'plain' });
  const proxy = await startFaultProxy({ target: server.url });
  onTestFinished(async () => {
    await proxy.close();
    await server.close();
  });
  await server.addBlob('team/app', BLOB);
  for (const rule of rules) proxy.faults.add(rule);
  return { repository: repositoryAt(proxy.host), server };
}

interface Read {
  readonly bytes: Buffer;
  readonly ranges: boolean;
  readonly size: number | undefined;
}

async function read(repository: Repository, start?: number, end?: number): Promise<Read> {
  const found = await repository.readBlob(DIGEST, { start, end, signal });
  const pieces = (await found!.stream.toArray()) as Buffer[];
  return { bytes: Buffer.concat(pieces), ranges: found!.ranges, size: found!.size };
}

describe('a range of a blob', () => {
  it.each([
    [undefined, undefined],
    [0, BLOB.length],
    [1, 2],
    [MIB + 3, undefined],
    [MIB, 2 * MIB],
    [BLOB.length - 1, BLOB.length],
  ])('from %s to %s has exactly these bytes', async (start, end) => {
    const { repository } = await behind();
    const { bytes, ranges, size } = await read(repository, start, end);
    expect(bytes.equals(BLOB.subarray(start, end))).toBe(true);
    expect([ranges, size]).toEqual([true, BLOB.length]);
  });

  it('goes on where the answer broke, over and over', async () => {
    const cut = { step: 'blob-get', fault: truncateAnswer(HEAD_BYTES + MIB), times: 2 } as const;
    const { repository, server } = await behind(cut);
    const { bytes } = await read(repository, 5, BLOB.length - 5);
    expect(bytes.equals(BLOB.subarray(5, BLOB.length - 5))).toBe(true);
    const asked = server.requests.filter(({ step }) => step === 'blob-get').map(({ headers }) => headers.range);
    expect(asked).toHaveLength(3);
    expect(asked[0]).toBe(`bytes=5-${BLOB.length - 6}`);
    // Each answer brought more than half a mebibyte: what had come was not asked for again.
    const starts = asked.map((range) => Number(/\d+/.exec(range!)?.[0]));
    expect(starts[1]! - starts[0]!).toBeGreaterThan(MIB / 2);
    expect(starts[2]! - starts[1]!).toBeGreaterThan(MIB / 2);
  });

  it('survives an answer that is lost and a gateway error', async () => {
    const { repository } = await behind(
      { step: 'blob-get', fault: dropAnswer },
      { step: 'blob-get', fault: gatewayError(502), nth: 2, times: 2 },
    );
    expect((await read(repository)).bytes.equals(BLOB)).toBe(true);
  });

  // RFC 9110, section 15.3.7: a host may answer with less than what was asked for.
  it('comes in parts where the host answers with shorter ranges, and no part counts as a failure', async () => {
    const asked: string[] = [];
    const host = await serve((request, response) => {
      if (request.url === '/v2/') return void response.end();
      asked.push(request.headers.range!);
      const start = Number(/\d+/.exec(request.headers.range!)![0]);
      const end = Math.min(BLOB.length, start + MIB);
      const contentRange = `bytes ${start}-${end - 1}/${BLOB.length}`;
      response.writeHead(206, { 'content-range': contentRange, 'content-length': end - start });
      response.end(BLOB.subarray(start, end));
    });
    const events: string[] = [];
    const repository = repositoryAt(host, { maxRetries: 0, onEvent: ({ type }) => void events.push(type) });
    const { bytes } = await read(repository);
    expect(bytes.equals(BLOB)).toBe(true);
    expect(asked.map((range) => Number(/\d+/.exec(range)![0]))).toEqual([0, MIB, 2 * MIB, 3 * MIB]);
    expect(events).not.toContain('retry');
  });

  it('is undefined for a blob that is not there', async () => {
    const { repository } = await behind();
    expect(await repository.readBlob(digestOfBytes(Buffer.from('another')), { signal })).toBeUndefined();
  });

  it('comes from a host without ranges too, whose bytes before it are dropped', async () => {
    let answers = 0;
    const host = await serve((request, response) => {
      if (request.url === '/v2/') return void response.end();
      answers += 1;
      response.writeHead(200, { 'content-length': BLOB.length });
      if (answers > 1) return void response.end(BLOB);
      response.write(BLOB.subarray(0, 2 * MIB), () => request.socket.resetAndDestroy());
    });
    const { bytes, ranges, size } = await read(repositoryAt(host), MIB, BLOB.length - 1);
    expect(bytes.equals(BLOB.subarray(MIB, BLOB.length - 1))).toBe(true);
    expect([ranges, size, answers]).toEqual([false, BLOB.length, 2]);
  });

  it('is refused when the host sends another range than the one that was asked for', async () => {
    const host = await serve((request, response) => {
      if (request.url === '/v2/') return void response.end();
      response.writeHead(206, { 'content-range': `bytes 0-9/${BLOB.length}`, 'content-length': 10 });
      response.end(BLOB.subarray(0, 10));
    });
    await expect(repositoryAt(host).readBlob(DIGEST, { start: 4, end: 9, signal })).rejects.toThrow(
      `bytes from 4 were asked for, its Content-Range is bytes 0-9/${BLOB.length}`,
    );
  });

  it('follows redirects to a storage, each time anew and without credentials', async () => {
    const seen: (string | undefined)[] = [];
    const storage = await serve((request, response) => {
      seen.push(request.headers.authorization);
      const start = Number(/bytes=(\d+)/.exec(request.headers.range!)?.[1]);
      const rest = BLOB.subarray(start);
      response.writeHead(206, {
        'content-range': `bytes ${start}-${BLOB.length - 1}/${BLOB.length}`,
        'content-length': rest.length,
      });
      if (seen.length === 1) response.write(rest.subarray(0, MIB), () => request.socket.resetAndDestroy());
      else response.end(rest);
    });
    const asked: (string | undefined)[] = [];
    const host = await serve((request, response) => {
      if (request.headers.authorization === undefined)
        return void response.writeHead(401, { 'www-authenticate': 'Basic realm="x"' }).end();
      asked.push(request.headers.authorization);
      response.writeHead(307, { location: `http://${storage}/signed?sig=${asked.length}` }).end();
    });
    const credentials = { source: 'the test', username: 'me', password: 'secret' };
    const { bytes } = await read(repositoryAt(host, { credentials }));
    expect(bytes.equals(BLOB)).toBe(true);
    expect(seen).toEqual([undefined, undefined]);
    expect(asked).toHaveLength(2);
  });

  it('does not hold more than a few pieces when its reader is slow', async () => {
    const { repository } = await behind();
    const found = await repository.readBlob(DIGEST, { signal });
    await once(found!.stream, 'readable');
    expect(found!.stream.readableLength).toBeLessThanOrEqual(512 * 1024);
    found!.stream.destroy();
  });
});

describe('tags', () => {
  it('are listed over all pages, wherever Link says that the next one is', async () => {
    const pages: Record<string, [string[] | null, string?]> = {
      '/v2/team/app/tags/list?n=1000': [['a', 'b'], '</v2/team/app/tags/list?last=b>; rel="next"'],
      // An inner address, as registries behind a proxy name it.
      '/v2/team/app/tags/list?last=b': [['c'], '<http://10.0.0.1:5000/v2/team/app/tags/list?last=c>; rel=next'],
      '/v2/team/app/tags/list?last=c': [null],
    };
    const host = await serve((request, response) => {
      const page = pages[request.url!];
      if (page === undefined) return void response.end();
      const [tags, link] = page;
      response.writeHead(200, link === undefined ? {} : { link });
      response.end(JSON.stringify({ name: 'team/app', tags }));
    });
    expect(await repositoryAt(host).tags(signal)).toEqual(['a', 'b', 'c']);
  });

  it('of an unknown repository are none', async () => {
    const { repository } = await behind();
    expect(await repository.tags(signal)).toEqual([]);
  });
});

describe('a manifest', () => {
  it.each([
    [202, 'deleted'],
    [404, 'absent'],
    [405, 'unsupported'],
    [400, 'unsupported'],
  ])('whose deletion is answered with %s is %s', async (status, expected) => {
    const host = await serve((request, response) => {
      response.statusCode = request.method === 'DELETE' ? status : 200;
      response.end();
    });
    expect(await repositoryAt(host).deleteManifest('old', signal)).toBe(expected);
  });

  it('that may not be deleted says so', async () => {
    const host = await serve((request, response) => {
      response.statusCode = request.method === 'DELETE' ? 403 : 200;
      response.end(JSON.stringify({ errors: [{ code: 'DENIED', message: 'no delete here' }] }));
    });
    const digest: Digest = `sha256:${'a'.repeat(64)}`;
    await expect(repositoryAt(host).deleteManifest(digest, signal)).rejects.toThrow('DENIED: no delete here');
  });
});
