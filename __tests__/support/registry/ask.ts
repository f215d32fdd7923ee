/** A plain HTTP request for tests of the wire: nothing retried, nothing followed, headers as they are given. */
import { type IncomingHttpHeaders, request } from 'node:http';
import type { Readable } from 'node:stream';
import { sha256 } from './store.ts';

export interface Reply {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
  /** The first error code of an OCI error, or undefined. */
  readonly code: string | undefined;
}

export interface Ask {
  readonly headers?: Record<string, string>;
  readonly body?: Uint8Array | Readable;
  /** Cut the connection after so many bytes of the body. */
  readonly cutAfter?: number;
}

const codeOf = (body: Buffer): string | undefined => {
  try {
    return JSON.parse(body.toString('utf8')).errors?.[0]?.code;
  } catch {
    return undefined;
  }
};

/** One request on a connection of its own. Rejects when the connection ends without a whole answer. */
export function ask(method: string, url: string, { headers = {}, body, cutAfter }: Ask = {}): Promise<Reply> {
  return new Promise((resolve, reject) => {
    const length =
      body instanceof Uint8Array && !('Transfer-Encoding' in headers) ? { 'Content-Length': String(body.length) } : {};
    const sent = request(url, { method, agent: false, headers: { ...length, ...headers } }, (response) => {
      const pieces: Buffer[] = [];
      response.on('data', (piece: Buffer) => pieces.push(piece));
      response.once('error', reject);
      response.once('end', () => {
        const whole = Buffer.concat(pieces);
        resolve({ status: response.statusCode ?? 0, headers: response.headers, body: whole, code: codeOf(whole) });
      });
    });
    sent.on('error', reject);
    if (cutAfter !== undefined && body instanceof Uint8Array) {
      sent.write(body.subarray(0, cutAfter), () => sent.destroy());
    } else if (body === undefined || body instanceof Uint8Array) sent.end(body);
    else body.pipe(sent);
  });
}

/** Opens a session: the absolute URL of its Location. */
export async function openSession(
  url: string,
  repository: string,
  headers: Record<string, string> = {},
): Promise<string> {
  const reply = await ask('POST', `${url}/v2/${repository}/blobs/uploads/`, {
    headers: { 'Content-Length': '0', ...headers },
  });
  return new URL(reply.headers.location ?? 'nowhere:', url).href;
}

/** A PATCH of the bytes [start, start + length). */
export const sendChunk = (location: string, body: Uint8Array, start: number, more: Ask = {}): Promise<Reply> =>
  ask('PATCH', location, {
    body,
    ...more,
    headers: {
      'Content-Type': 'application/octet-stream',
      'Content-Range': `${start}-${start + body.length - 1}`,
      ...more.headers,
    },
  });

/** The newest Location of a reply as an absolute URL. */
export const locationOf = (reply: Reply, base: string): string =>
  new URL(reply.headers.location ?? 'nowhere:', base).href;

/** A Location with the closing digest. */
export function closing(location: string, digest: string): string {
  const url = new URL(location);
  url.searchParams.set('digest', digest);
  return url.href;
}

/** Sends a whole blob in chunks of one size and closes: the reply to the PUT. */
export async function sendBlob(url: string, repository: string, bytes: Uint8Array, chunk: number): Promise<Reply> {
  let location = await openSession(url, repository);
  for (let start = 0; start < bytes.length; start += chunk) {
    location = locationOf(await sendChunk(location, bytes.subarray(start, start + chunk), start), location);
  }
  return ask('PUT', closing(location, sha256(bytes)), { headers: { 'Content-Length': '0' } });
}

/** A manifest of blobs, as bytes. */
export const manifestOf = (config: string, layers: readonly string[], more: object = {}): Buffer =>
  Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: 'application/vnd.oci.image.manifest.v1+json',
      config: { mediaType: 'application/vnd.oci.image.config.v1+json', digest: config, size: 2 },
      layers: layers.map((digest) => ({ mediaType: 'application/vnd.oci.image.layer.v1.tar+gzip', digest, size: 3 })),
      ...more,
    }),
  );

/** PUT of a manifest. */
export const putManifest = (
  url: string,
  repository: string,
  reference: string,
  bytes: Buffer,
  headers = {},
): Promise<Reply> =>
  ask('PUT', `${url}/v2/${repository}/manifests/${reference}`, {
    body: bytes,
    headers: { 'Content-Type': 'application/vnd.oci.image.manifest.v1+json', ...headers },
  });
