/** A forward proxy as companies have them, on loopback. */
import { once } from 'node:events';
import { createServer, request as forward } from 'node:http';
import { connect as connectTcp } from 'node:net';
import { listen } from './loopback.ts';

/** Starts a forward proxy that takes every host for one loopback server (`127.0.0.1:port`), and notes what it was asked. It ends with the test. */
export async function proxyTo(host: string, refusal?: number) {
  const asked: string[] = [];
  const port = Number(host.split(':')[1]);
  const server = createServer((request, response) => {
    asked.push(`${request.method} ${request.url} ${request.headers['proxy-authorization'] ?? '-'}`);
    const { method, headers } = request;
    const { pathname, search } = new URL(request.url!);
    const onward = forward({ port, host: '127.0.0.1', method, path: pathname + search, headers }, (answer) => {
      response.writeHead(answer.statusCode!, answer.headers);
      answer.pipe(response);
    });
    request.pipe(onward);
  });
  server.on('connect', async (request, socket) => {
    asked.push(`CONNECT ${request.url} ${request.headers['proxy-authorization'] ?? '-'}`);
    if (refusal !== undefined) return void socket.end(`HTTP/1.1 ${refusal} No\r\nContent-Length: 0\r\n\r\n`);
    const onward = connectTcp(port, '127.0.0.1');
    await once(onward, 'connect');
    socket.write('HTTP/1.1 200 OK\r\n\r\n');
    socket.on('error', () => onward.destroy()).pipe(onward);
    onward.on('error', () => socket.destroy()).pipe(socket);
  });
  return { url: `http://${await listen(server)}`, asked };
}
