import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { digestOf } from '../../../src/oci/types.ts';
import { type DockerAddress, type DockerOptions, docker, partOfDocker } from '../../support/real/docker.ts';
import { commandOf } from '../../support/real/parts.ts';
import { type Podman, startPodman } from '../../support/real/podman.ts';
import { type DockerRegistry, startDockerRegistry } from '../../support/real/registry.ts';
import { describeWith, sharedDocker } from '../../support/real/suite.ts';
import { type Client, factsOf, readImage } from './reading.ts';
import { archiveOf, manyFiles, paxSparse, variedTars } from './varied-tars.ts';

let work: string;
let tars: Record<string, Buffer>;
beforeAll(async () => {
  work = mkdtempSync(join(tmpdir(), 'chunked-push-store-'));
  tars = await variedTars(work);
});
afterAll(() => rmSync(work, { recursive: true, force: true }));

const write = (name: string, bytes: Buffer | string): string => {
  const path = join(work, name);
  writeFileSync(path, bytes);
  return path;
};

/** An archive of one image that has all the special tars as its layers, whiteouts above what they hide. */
const loadable = async (name: string): Promise<string> => {
  const layers = Object.values(tars);
  const config = {
    architecture: 'amd64',
    os: 'linux',
    config: {},
    rootfs: { type: 'layers', diff_ids: layers.map(digestOf) },
  };
  return write('loadable.tar', await archiveOf(layers, Buffer.from(JSON.stringify(config)), name));
};

const context = (): string => {
  write(
    'Dockerfile',
    'FROM scratch\nCOPY special-*.tar /one/\nCOPY special-0.tar /two\nWORKDIR /empty\nENV A=b\nCOPY special-0.tar /two\n',
  );
  for (const [i, tar] of Object.values(tars).entries()) write(`special-${i}.tar`, tar);
  return work;
};

const engines: readonly DockerOptions[] = [
  { version: 'debian', store: 'overlay2' },
  { version: 'trixie', store: 'overlay2' },
  { version: 'trixie', store: 'containerd' },
];

for (const options of engines) {
  describeWith(
    [partOfDocker(options.version), 'docker-registry'],
    `store of Docker ${options.version} (${options.store})`,
    () => {
      let engine: DockerAddress;
      let registry: DockerRegistry;
      let client: Client;
      beforeAll(async () => {
        [engine, registry] = await Promise.all([sharedDocker(options), startDockerRegistry()]);
        client = { engine: 'docker', command: commandOf(partOfDocker(options.version), 'docker'), env: engine.env };
      });
      afterAll(() => registry?.stop());

      const expectWhole = async (image: string) => {
        const { asked, came } = await readImage(client, image);
        expect(came).toEqual(asked);
        return asked;
      };

      it('gives what was built', async () => {
        await docker(engine, 'build', '-q', '-t', 'varied/built', context());
        const facts = await factsOf(client, 'varied/built');
        const asked = await expectWhole('varied/built');
        if (options.store === 'overlay2') expect(new Set(asked)).toEqual(new Set(facts.diffIds));
      });

      it('gives what was loaded, one layer for each special content', async () => {
        await docker(engine, 'load', '-i', await loadable('varied/loaded:1'));
        const asked = await expectWhole('varied/loaded:1');
        expect(asked).toHaveLength(Object.keys(tars).length);
        if (options.store === 'overlay2') expect(asked).toEqual(Object.values(tars).map(digestOf));
      });

      it('gives what was imported', async () => {
        for (const [i, tar] of Object.values(tars).entries()) {
          await docker(engine, 'import', write(`import-${i}.tar`, tar), `varied/imported:${i}`);
          await expectWhole(`varied/imported:${i}`);
        }
      });

      it('gives what was committed', async () => {
        await docker(engine, 'load', '-i', await loadable('varied/loaded:1'));
        const container = (await docker(engine, 'create', 'varied/loaded:1', '/none')).trim();
        await docker(engine, 'cp', write('added', 'by cp'), `${container}:/added`);
        await docker(engine, 'commit', container, 'varied/committed');
        await expectWhole('varied/committed');
      });

      it('gives what was pulled', async () => {
        await docker(engine, 'load', '-i', await loadable(`${registry.host}/varied:1`));
        await docker(engine, 'push', '-q', `${registry.host}/varied:1`);
        await docker(engine, 'image', 'rm', '-f', `${registry.host}/varied:1`, 'varied/loaded:1');
        await docker(engine, 'pull', '-q', `${registry.host}/varied:1`);
        await expectWhole(`${registry.host}/varied:1`);
      });

      if (options.store === 'overlay2') {
        it('has the wrong bytes for sparse entries of PAX, as the engine itself has, and the digest tells', async () => {
          await docker(engine, 'import', write('sparse.tar', await paxSparse(work)), 'varied/sparse');
          const { asked, came } = await readImage(client, 'varied/sparse');
          expect(came).not.toEqual(asked);
        });
      }

      // Engines take half a minute to take 100,000 files in, so one of them does.
      const count = options.version === 'debian' ? 100_000 : 5000;
      it(`gives ${count} small files`, async () => {
        await docker(engine, 'import', write('many.tar', await manyFiles(count)), 'varied/many');
        rmSync(join(work, 'many.tar'));
        await expectWhole('varied/many');
      }, 240_000);
    },
  );
}

describeWith(['podman'], 'storage of Podman (overlay)', () => {
  let podman: Podman;
  let client: Client;
  beforeAll(async () => {
    podman = await startPodman();
    client = { engine: 'podman', command: commandOf('podman', 'podman'), env: podman.env };
  });
  afterAll(() => podman?.stop());

  it('gives what was loaded, built and imported', async () => {
    await podman.run('load', '-i', await loadable('localhost/loaded:1'));
    await podman.run('build', '-q', '-t', 'built', context());
    await podman.run('import', write('imported.tar', tars['hard links']!), 'imported');
    for (const image of ['localhost/loaded:1', 'built', 'imported']) {
      const { asked, came } = await readImage(client, image);
      expect(came).toEqual(asked);
    }
  });
});
