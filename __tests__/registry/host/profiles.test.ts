import { expect, it } from 'vitest';
import { profileFor } from '../../../src/registry/host/profiles.ts';

it.each([
  ['ghcr.io', 'GitHub Container Registry'],
  ['GHCR.io:443', 'GitHub Container Registry'],
  ['123456789012.dkr.ecr.eu-central-1.amazonaws.com', 'Amazon ECR'],
  ['123456789012.dkr.ecr-fips.us-gov-west-1.amazonaws.com', 'Amazon ECR'],
  ['123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn', 'Amazon ECR'],
  ['123456789012.dkr-ecr.eu-west-1.on.aws', 'Amazon ECR'],
  ['public.ecr.aws', 'Amazon ECR'],
  ['europe-west3-docker.pkg.dev', 'Google Artifact Registry'],
  ['gcr.io', 'Google Artifact Registry'],
  ['eu.gcr.io', 'Google Artifact Registry'],
  ['team.azurecr.io', 'Azure Container Registry'],
  ['docker.io', 'Docker Hub'],
  ['registry-1.docker.io', 'Docker Hub'],
  ['registry.example.com', 'any registry'],
  ['notghcr.io', 'any registry'],
  ['ghcr.io.example.com', 'any registry'],
  ['amazonaws.com', 'any registry'],
  ['localhost:5000', 'any registry'],
])('%s is %s', (host, name) => {
  expect(profileFor(host).name).toBe(name);
});

it('what the evidence says', () => {
  expect(profileFor('ghcr.io').monolithic).toBe(true);
  expect(profileFor('gcr.io').monolithic).toBe(true);
  expect(profileFor('1.dkr.ecr.eu-west-1.amazonaws.com')).toMatchObject({
    chunkSize: 20_971_520,
    lastChunkInPut: true,
    staleRange: true,
  });
});
