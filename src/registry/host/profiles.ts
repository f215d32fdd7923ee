/**
 * What is known of hosted registries before they are asked, with the evidence. A profile is a starting point: what the
 * server really answers (OCI-Chunk-*-Length, Range, 413, 416) wins.
 */

import { isDockerHub } from '../../oci/reference.ts';

export interface Profile {
  /** For the log. */
  readonly name: string;
  /** Sends a blob in one PUT, of any size, as long as no limit is known and the user set none. */
  readonly monolithic?: boolean;
  /** The largest chunk, bytes. */
  readonly chunkSize?: number;
  /** The smallest chunk but the last, bytes. */
  readonly smallestChunk?: number;
  /** The last chunk goes in the closing PUT, which is then never empty. */
  readonly lastChunkInPut?: boolean;
  /** The `Range` of its answers does not move although the bytes are stored: our own count is believed. */
  readonly staleRange?: boolean;
  /** It hangs up on a request to open an upload in a repository that does not exist. */
  readonly hangsUpOnUnknown?: boolean;
  /** What to do when an upload cannot be opened, for the error message. */
  readonly openRemedy?: string;
}

const MIB = 2 ** 20;

const NOTHING_KNOWN: Profile = { name: 'any registry' };

/**
 * A PATCH over 4 MiB gets 416 "exceeds the maximum permissible limit of 4.00MiB"; no limit of a PUT is known.
 * https://github.com/oras-project/rust-oci-client/issues/35, https://github.com/ocx-sh/ocx/pull/237
 */
const GHCR: Profile = { name: 'GitHub Container Registry', monolithic: true };

/**
 * Parts of 5 to 20 MiB: https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_UploadLayerPart.html PATCH
 * answers 201, Range stays at the first chunk, the last chunk in the PUT was seen to work:
 * https://github.com/aws/containers-roadmap/issues/2831. A repository that does not exist hangs up or answers 404;
 * since 2025-12-19 a repository creation template (CREATE_ON_PUSH) makes it on push. Mounts from other repositories
 * work since 2026-01-20 where the account has turned them on, for blobs that a manifest names; elsewhere they are
 * refused with 202.
 */
const ECR: Profile = {
  name: 'Amazon ECR',
  chunkSize: 20 * MIB,
  smallestChunk: 5 * MIB,
  lastChunkInPut: true,
  staleRange: true,
  hangsUpOnUnknown: true,
  openRemedy:
    'ECR makes a repository on push only where a repository creation template covers its name: create it first (aws ecr create-repository), or check its name',
};

/**
 * "Artifact Registry does not support Docker chunked uploads":
 * https://cloud.google.com/artifact-registry/docs/reference/docker-api gcr.io is served by it since 2025. One PUT of 1
 * GB was seen to work: https://github.com/kitops-ml/kitops/pull/780
 */
const GOOGLE: Profile = { name: 'Google Artifact Registry', monolithic: true };

/** Needs Content-Length and a Content-Range without a unit, which is what we always send. */
const AZURE: Profile = { name: 'Azure Container Registry' };

/** Takes chunks. A mount needs a token with pull on the source: both scopes are asked for in one token. */
const DOCKER_HUB: Profile = { name: 'Docker Hub' };

/** Host name without port; the first match counts. */
const PROFILES: readonly (readonly [pattern: RegExp, profile: Profile])[] = [
  [/^ghcr\.io$|^(docker|containers)\.pkg\.github\.com$/, GHCR],
  [/\.dkr[.-]ecr(-fips)?\.[a-z0-9-]+\.(amazonaws\.com(\.cn)?|on\.aws)$|^public\.ecr\.aws$/, ECR],
  [/\.pkg\.dev$|^([a-z0-9-]+\.)?gcr\.io$/, GOOGLE],
  [/\.azurecr\.(io|cn|us)$/, AZURE],
];

/** The profile for `host[:port]`. */
export function profileFor(host: string): Profile {
  const name = host.toLowerCase().replace(/:\d+$/, '');
  if (isDockerHub(name)) return DOCKER_HUB;
  return PROFILES.find(([pattern]) => pattern.test(name))?.[1] ?? NOTHING_KNOWN;
}
