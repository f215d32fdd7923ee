/**
 * Counts round trips, whatever the machine's speed: a relay of TCP connections that delivers in rounds. What the client has sent when
 * it has gone quiet goes to the server at once, and what the server then answers goes back at once: that is one round trip. A
 * connection is usable one round after it was opened, as a TCP handshake takes.
 */

import { connect, createServer, type Socket } from 'node:net';
import { onTestFinished } from 'vitest';
import { listen } from './loopback.ts';

/** Longer than either side needs to answer to all that it has. */
const QUIET_MS = 200;

interface Link {
  readonly client: Socket;
  readonly server: Socket;
  up: Buffer[];
  down: Buffer[];
  isNew: boolean;
}

export interface Rounds {
  /** `127.0.0.1:port`. */
  readonly host: string;
  /** Round trips so far. */
  count: number;
  /** Connections that were opened so far. */
  connections: number;
}

export interface RoundsOptions {
  /** Longer than the client needs to send all that it can send without another answer, ms. Default: 200. */
  readonly clientQuiet?: number;
}

/** A relay to `127.0.0.1:port`; it ends with the test. */
export async function inRounds(target: string, { clientQuiet = QUIET_MS }: RoundsOptions = {}): Promise<Rounds> {
  const links = new Set<Link>();
  let timer: NodeJS.Timeout | undefined;
  let isUp = true;
  const touch = (): void => {
    clearTimeout(timer);
    timer = setTimeout(turn, isUp ? clientQuiet : QUIET_MS);
  };
  const rounds = { host: '', count: 0, connections: 0 };

  /** One side has gone quiet: deliver to the other. */
  function turn(): void {
    if (isUp) {
      const isWorth = [...links].some(({ up, isNew }) => isNew || up.length > 0);
      if (!isWorth) return;
      for (const link of links) {
        if (!link.isNew) for (const piece of link.up.splice(0)) link.server.write(piece);
      }
    } else {
      rounds.count += 1;
      for (const link of links) {
        link.isNew = false;
        for (const piece of link.down.splice(0)) link.client.write(piece);
      }
    }
    isUp = !isUp;
    touch();
  }

  const server = createServer((client) => {
    rounds.connections += 1;
    const link: Link = { client, server: connect(Number(target.split(':')[1])), up: [], down: [], isNew: true };
    links.add(link);
    const end = (): void => {
      links.delete(link);
      client.destroy();
      link.server.destroy();
    };
    client.on('data', (piece) => {
      link.up.push(piece);
      touch();
    });
    link.server.on('data', (piece) => {
      link.down.push(piece);
      touch();
    });
    for (const socket of [client, link.server]) socket.on('error', end).on('close', end);
    touch();
  });
  onTestFinished(() => {
    clearTimeout(timer);
    for (const { client, server: other } of links) {
      client.destroy();
      other.destroy();
    }
  });
  rounds.host = await listen(server);
  return rounds;
}
