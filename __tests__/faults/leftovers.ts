/** What the tests of whole pushes share: an image in a file, and what a run leaves behind. */
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type ImageRecipe, writeDockerArchive } from '../support/images.ts';
import type { ActionRun, Runner } from '../support/runner.ts';

export interface ImageFile {
  /** For the input `image`. */
  readonly source: string;
  remove(): void;
}

/** Writes a docker-archive of the recipe's image. */
export async function imageFile(recipe: ImageRecipe): Promise<ImageFile> {
  const folder = mkdtempSync(join(tmpdir(), 'chunked-push-faults-'));
  await writeDockerArchive(join(folder, 'image.tar'), 'faults/app:1', recipe);
  return {
    source: `docker-archive:${join(folder, 'image.tar')}`,
    remove: () => rmSync(folder, { recursive: true, force: true }),
  };
}

/** The files below a folder, as paths. */
export const filesBelow = (folder: string): string[] =>
  readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map(({ parentPath, name }) => join(parentPath, name));

/** Everything that a run leaves for others to read, by where it is; `::add-mask::` lines are for the runner alone. */
export function traces(run: ActionRun, { temp, home, workspace }: Runner): ReadonlyMap<string, string> {
  const lines = run.log.split('\n').filter((line) => !line.startsWith('::add-mask::'));
  const files = [temp, home, workspace]
    .flatMap(filesBelow)
    .map((path) => [path, readFileSync(path, 'latin1')] as const);
  return new Map([
    ['log', lines.join('\n')],
    ['summary', run.summary],
    ['outputs', JSON.stringify(run.outputs)],
    ['state', JSON.stringify(run.state)],
    ...files,
  ]);
}

/** What `metadata` says of the bytes that went twice. */
export const resentBy = (run: ActionRun): number =>
  (JSON.parse(run.outputs.metadata ?? '{}') as { bytesResent: number }).bytesResent;
