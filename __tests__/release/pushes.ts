/** A push by an installed command, in an environment that has nothing of this checkout. */
import { expect } from 'vitest';
import { pullBack } from '../../scripts/demo/pull-back.ts';
import { runBare } from '../../scripts/release/run-bare.ts';
import type { Digest } from '../../src/oci/types.ts';
import type { Registry } from '../support/registry/server.ts';

/** Pushes by `command`, then pulls the image back and checks each byte of its layers. */
export const expectPush = async (
  command: readonly string[],
  env: Readonly<Record<string, string>>,
  registry: Registry,
  repository: string,
): Promise<void> => {
  const { exitCode, stdout, stderr } = await runBare([...command, '--to', `${registry.host}/${repository}:1`], env);
  expect(exitCode, stderr).toBe(0);
  const [, digest] = /^\S+@(sha256:[0-9a-f]{64})$/m.exec(stdout) ?? [];
  expect(await pullBack(registry.url, repository, digest as Digest)).toHaveLength(2);
};

/** Compressible and not, each larger than what the registry takes in one request. */
export const RECIPE = {
  seed: 'release',
  layers: [{ bytes: 6_000_000 }, { bytes: 3_000_000, content: 'random' as const }],
};

/** Bytes that the registry takes in a request. */
export const LIMIT = 1024 * 1024;
