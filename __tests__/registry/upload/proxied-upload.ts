/**
 * What tests of uploads with a fault at one place share: one blob, and a client of a registry behind the fault proxy. `server` and the
 * others are those of the last `start`.
 */
import { readFile } from 'node:fs/promises';
import { expect } from 'vitest';
import type { RegistryEvent } from '../../../src/registry/host/context.ts';
import type { Registry as Client, RegistryOptions } from '../../../src/registry/registry.ts';
import type { Repository } from '../../../src/registry/repository.ts';
import type { FaultProxy } from '../../support/fault-proxy/proxy.ts';
import type { FaultRule } from '../../support/fault-proxy/rules.ts';
import { type ProfileName, type ProfileOptions, TEST_CREDENTIALS } from '../../support/registry/profiles.ts';
import type { Registry as Server } from '../../support/registry/server.ts';
import { REPOSITORY, startProxied } from '../helpers/behind-proxy.ts';
import { bytesOf, digestOfBytes, KIB, knownBody, plain } from './client.ts';

export const CHUNK = 256 * KIB;
export const SIZE = 4 * CHUNK + 1000;
export const BYTES = bytesOf(SIZE, 'tiers');
export const DIGEST = digestOfBytes(BYTES);

export let server: Server;
export let proxy: FaultProxy;
export let client: Client;
export let events: RegistryEvent[];

export type Settings = ProfileOptions & { readonly client?: Partial<RegistryOptions> };

export async function start(profile: ProfileName, ...rules: FaultRule[]): Promise<Repository> {
  return startWith(profile, {}, ...rules);
}

export async function startWith(profile: ProfileName, settings: Settings, ...rules: FaultRule[]): Promise<Repository> {
  const proxied = await startProxied({ profile, minChunk: 64 * KIB, ...settings }, rules);
  const credentials = { source: 'the test', ...TEST_CREDENTIALS };
  const connected = proxied.connect({ chunkSize: CHUNK, credentials, ...settings.client });
  ({ server, proxy } = proxied);
  ({ registry: client, events } = connected);
  return connected.repository;
}

export const retries = (): RegistryEvent[] => events.filter(({ type }) => type === 'retry');

export const count = (step: string): number => server.requests.filter((request) => request.step === step).length;

export async function expectStored(bytes = BYTES): Promise<void> {
  const digest = digestOfBytes(bytes);
  expect(server.blobs(REPOSITORY)).toContain(digest);
  expect((await readFile(server.blobPath(digest))).equals(bytes)).toBe(true);
}

/** Uploads the test's blob, checks it, and gives the bytes that were sent again. */
export async function resent(repository: Repository, body = knownBody(BYTES)): Promise<number> {
  const outcome = await repository.uploadBlob(body, plain());
  await expectStored();
  expect(outcome.what).toBe('uploaded');
  return outcome.bytesResent;
}
