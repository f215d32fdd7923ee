/**
 * A process of its own that answers 413 to every body before it has come, and then closes in the way that its argument says. In another
 * process, because only then the reset can arrive between two writes of the client. Prints its port.
 */
import { readFileSync } from 'node:fs';
import { type AddressInfo, createServer, type Socket } from 'node:net';
import { createServer as createTlsServer } from 'node:tls';

const [way = '', scheme = 'http'] = process.argv.slice(2);
const PAGE = '<html><head><title>413 Request Entity Too Large</title></head></html>';
const ANSWER = `HTTP/1.1 413 Too Large\r\nContent-Type: text/html\r\nConnection: close\r\nContent-Length: ${PAGE.length}\r\n\r\n${PAGE}`;

const WAYS: Readonly<Record<string, (socket: Socket) => void>> = {
  destroy: (socket) => socket.destroy(),
  reset: (socket) => socket.resetAndDestroy(),
  late: (socket) => void setTimeout(() => socket.destroy(), 5),
  end: (socket) => void socket.end(),
};

function onConnection(socket: Socket): void {
  let head = '';
  socket.on('error', () => {});
  socket.on('data', (piece) => {
    head += piece.toString('latin1');
    if (!head.includes('\r\n\r\n')) return;
    const isPing = head.startsWith('GET ');
    head = '';
    if (isPing) return void socket.write('HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n');
    socket.pause().removeAllListeners('data');
    socket.write(ANSWER, () => WAYS[way]?.(socket));
  });
}

const tls = (name: string): Buffer => readFileSync(new URL(`../../fixtures/tls/${name}`, import.meta.url));
const server =
  scheme === 'https'
    ? createTlsServer({ key: tls('server.key'), cert: tls('server.pem') }, onConnection)
    : createServer(onConnection);
server.listen(0, '127.0.0.1', () => process.stdout.write(`${(server.address() as AddressInfo).port}\n`));
