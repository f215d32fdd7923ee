/**
 * Counts round trips, whatever the machine's speed: a relay of TCP connections that delivers in rounds. What the client has sent when
 * it has gone quiet goes to the server at once, and what the server then answers goes back at once: that is one round trip. A
 * connection is usable one round after it was opened, as a TCP handshake takes.
 */

import { connect, createServer, type Socket } from 'node:net';
import { setTimeout as sleep, setImmediate as turn } from 'node:timers/promises';
import { expect, onTestFinished } from 'vitest';
import type { Registry } from '../../support/registry/server.ts';
import { listen } from './loopback.ts';

/** Longer than either side, in this process, needs to answer to all that it has. */
const QUIET_MS = 100;

/** What came while a busy machine kept this process from running is handled in these turns of the event loop. */
const TURNS = 10;

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
  /** Resolves when nothing is under way: the client has all answers, and has sent nothing since. */
  idle(): Promise<void>;
}

export interface RoundsOptions {
  /** Resolves when the client can send no more without another answer. Default: after 100 ms. */
  readonly clientQuiet?: () => Promise<void>;
  /** Resolves when the server has answered to all that it got. Default: after 100 ms. */
  readonly serverQuiet?: () => Promise<void>;
}

const pause = (): Promise<void> => sleep(QUIET_MS);

/** A relay to `127.0.0.1:port`; it ends with the test. */
export async function inRounds(
  target: string,
  { clientQuiet = pause, serverQuiet = pause }: RoundsOptions = {},
): Promise<Rounds> {
  const links = new Set<Link>();
  let events = 0;
  let [isOver, isIdle] = [false, true];
  let wake = Promise.withResolvers<void>();
  const touch = (): void => {
    events += 1;
    isIdle = false;
    wake.resolve();
  };

  /** Waits until a side has nothing more to send: nothing came while it went quiet. */
  async function settled(quiet: () => Promise<void>): Promise<void> {
    for (let seen = -1; seen !== events && !isOver; ) {
      seen = events;
      await quiet();
      for (let turns = 0; turns < TURNS; turns += 1) await turn();
    }
  }

  async function relay(): Promise<void> {
    while (!isOver) {
      await settled(clientQuiet);
      // Nothing wakes this up any more then.
      if (isOver) return;
      if (![...links].some(({ up, isNew }) => isNew || up.length > 0)) {
        wake = Promise.withResolvers();
        isIdle = true;
        await wake.promise;
        continue;
      }
      for (const link of links) {
        if (!link.isNew) for (const bytes of link.up.splice(0)) link.server.write(bytes);
      }
      await settled(serverQuiet);
      rounds.count += 1;
      for (const link of links) {
        link.isNew = false;
        for (const bytes of link.down.splice(0)) link.client.write(bytes);
      }
    }
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
    client.on('data', (bytes) => {
      link.up.push(bytes);
      touch();
    });
    link.server.on('data', (bytes) => {
      link.down.push(bytes);
      touch();
    });
    for (const socket of [client, link.server]) socket.on('error', end).on('close', end);
    touch();
  });
  onTestFinished(async () => {
    isOver = true;
    wake.resolve();
    for (const { client, server: other } of links) {
      client.destroy();
      other.destroy();
    }
    await relaying;
  });
  const rounds = {
    host: await listen(server),
    count: 0,
    connections: 0,
    idle: () => expect.poll(() => isIdle).toBe(true),
  };
  const relaying = relay();
  return rounds;
}

/**
 * For `serverQuiet`: when the test registry has answered to every request whose body has come, however long that takes. A body that
 * stands still is the client's to send.
 */
export const answeredBy =
  ({ requests }: Registry) =>
  async (): Promise<void> => {
    let bytesBefore = -1;
    // TLS handshakes are no requests.
    for (let still = QUIET_MS - 40; still < QUIET_MS; still += 20) {
      await sleep(20);
      const open = requests.filter(({ endedAt }) => endedAt === undefined);
      if (open.length === 0) continue;
      const bytes = open.reduce((sum, request) => sum + request.bytes, 0);
      const isComplete = open.some((request) => request.bytes >= Number(request.headers['content-length'] ?? 0));
      if (isComplete || bytes !== bytesBefore) still = 0;
      bytesBefore = bytes;
    }
  };
