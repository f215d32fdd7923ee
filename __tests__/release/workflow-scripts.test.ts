/** The shell scripts of the jobs that may write, run in bash as a runner does, on real git repositories. */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { parse } from 'yaml';

const workflow = (name: string) =>
  parse(readFileSync(fileURLToPath(new URL(`../../.github/workflows/${name}`, import.meta.url)), 'utf8')) as {
    jobs: Record<string, { steps: { run?: string }[] }>;
  };

const lastScript = (name: string, job: string): string => workflow(name).jobs[job]!.steps.at(-1)!.run!;

let folder: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'chunked-push-workflow-'));
});

afterEach(() => rmSync(folder, { recursive: true }));

/** A stand-in for GitHub's own program, which needs GitHub: it notes its arguments, and answers what a test has it answer. */
const standInForGh = (answer = ''): void => {
  mkdirSync(join(folder, 'bin'));
  const script = `#!/bin/sh\nprintf '%s\\n' "$*" >> '${folder}/gh'\n${answer}\n`;
  writeFileSync(join(folder, 'bin/gh'), script, { mode: 0o755 });
};

const asked = (): readonly string[] => readFileSync(join(folder, 'gh'), 'utf8').trim().split('\n');

/** https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-syntax#jobsjob_idstepsshell */
const run = (script: string, cwd: string, env: Readonly<Record<string, string>>) =>
  spawnSync('bash', ['--noprofile', '--norc', '-e', '-c', script], {
    cwd,
    encoding: 'utf8',
    env: { PATH: `${folder}/bin:${process.env.PATH}`, HOME: folder, GIT_CONFIG_NOSYSTEM: '1', ...env },
  });

describe('the commit of a rebuilt dist', () => {
  const branch = 'dependabot/npm_and_yarn/bundled-1234';
  let origin: string;
  let clone: string;
  let built: string;

  const git = (cwd: string, ...args: string[]): string =>
    execFileSync('git', ['-c', 'user.name=t', '-c', 'user.email=t@example.com', ...args], { cwd, encoding: 'utf8' });

  beforeEach(() => {
    standInForGh();
    [origin, clone, built] = [join(folder, 'origin'), join(folder, 'clone'), join(folder, 'built')];
    git(folder, 'init', '--quiet', '--bare', origin);
    git(folder, 'clone', '--quiet', origin, clone);
    git(clone, 'switch', '--quiet', '--create', branch);
    for (const path of [join(clone, 'dist'), built]) {
      mkdirSync(path);
      for (const name of ['cli.js', 'main.js', 'licenses.txt']) writeFileSync(join(path, name), `${name}\n`);
    }
    execFileSync('chmod', ['755', join(clone, 'dist/cli.js')]);
    writeFileSync(join(clone, 'package.json'), '{}\n');
    git(clone, 'add', '--all');
    git(clone, 'commit', '--quiet', '--message', 'Bump undici');
    git(clone, 'push', '--quiet', 'origin', branch);
    git(clone, 'checkout', '--quiet', '--detach');
  });

  const commit = () => run(lastScript('dependabot-dist.yml', 'commit'), clone, { BUILT: built, BRANCH: branch });
  const commits = () => git(origin, 'log', '--format=%s', branch).trim().split('\n');

  it('has dist and nothing else, goes to the branch, and starts CI on it', () => {
    writeFileSync(join(built, 'main.js'), 'new\n');
    writeFileSync(join(built, 'chunk-A.js'), 'new\n');
    rmSync(join(built, 'licenses.txt'));
    const { status, stderr } = commit();
    expect(status, stderr).toBe(0);
    expect(commits()).toEqual(['Rebuild dist', 'Bump undici']);
    expect(git(origin, 'show', '--format=%b', '--name-status', branch).trim().split(/\n+/)).toEqual([
      '[dependabot skip]',
      'A\tdist/chunk-A.js',
      'D\tdist/licenses.txt',
      'M\tdist/main.js',
    ]);
    expect(asked()).toEqual(['auth setup-git', `workflow run ci.yml --ref ${branch}`]);
  });

  it('is left out when dist is the same', () => {
    const { status, stdout } = commit();
    expect(status).toBe(0);
    expect(stdout).toContain('dist is the same');
    expect(commits()).toEqual(['Bump undici']);
  });

  it.each<[string, () => void]>([
    ['a symbolic link', () => symlinkSync('../../.git/config', join(built, 'leak.js'))],
    ['a folder', () => mkdirSync(join(built, '.github'))],
    ['a file of another kind', () => writeFileSync(join(built, 'run.sh'), 'true\n')],
    ['a name with a line break', () => writeFileSync(join(built, 'a\nb.js'), '1\n')],
  ])('is refused with %s in the artifact', (_, spoil) => {
    writeFileSync(join(built, 'main.js'), 'new\n');
    spoil();
    const { status, stdout } = commit();
    expect(status).toBe(1);
    expect(stdout).toContain('not part of a bundle');
    expect(commits()).toEqual(['Bump undici']);
  });

  it('fails when the branch has moved meanwhile, and leaves it alone', () => {
    git(clone, 'switch', '--quiet', branch);
    git(clone, 'commit', '--quiet', '--allow-empty', '--message', 'Rebased');
    git(clone, 'push', '--quiet', 'origin', branch);
    git(clone, 'checkout', '--quiet', '--detach', 'HEAD~1');
    writeFileSync(join(built, 'main.js'), 'new\n');
    expect(commit().status).not.toBe(0);
    expect(commits()).toEqual(['Rebased', 'Bump undici']);
    expect(asked()).not.toContain(`workflow run ci.yml --ref ${branch}`);
  });
});

describe('the end of a release', () => {
  const env = { GITHUB_REF_NAME: 'v1.10.0', GITHUB_SHA: 'c0ffee', GH_REPO: 'org/chunked-push' };
  const tags = (...names: string[]) =>
    `case "$*" in *matching-refs*) printf 'refs/tags/%s\\n' ${names.join(' ')} ;; *"$FAILING"*) exit 1 ;; esac`;
  const end = (failing = 'nothing') => run(lastScript('release.yml', 'publish'), folder, { ...env, FAILING: failing });

  it('publishes, then moves the major tag to the commit', () => {
    standInForGh(tags('v1.2.0', 'v1.9.3', 'v1.10.0', 'v1.99.0-rc.1'));
    expect(end().status).toBe(0);
    expect(asked()[0]).toBe('release edit v1.10.0 --draft=false');
    expect(asked().at(-1)).toBe(
      'api --method PATCH repos/org/chunked-push/git/refs/tags/v1 --field sha=c0ffee --field force=true',
    );
  });

  it('makes the major tag at the first release', () => {
    standInForGh(tags('v1.10.0'));
    expect(end('PATCH').status).toBe(0);
    expect(asked().at(-1)).toBe(
      'api --method POST repos/org/chunked-push/git/refs --field ref=refs/tags/v1 --field sha=c0ffee',
    );
  });

  it('leaves the major tag where a newer version is', () => {
    standInForGh(tags('v1.9.3', 'v1.10.0', 'v1.11.0'));
    const { status, stdout } = end();
    expect(status).toBe(0);
    expect(stdout).toContain('v1 stays at v1.11.0');
    expect(asked().filter((line) => line.includes('--method'))).toEqual([]);
  });

  it('fails when the tag can not be moved, or the release not be published', () => {
    standInForGh(tags('v1.10.0'));
    expect(end('--method').status).not.toBe(0);
    expect(end('release edit').status).not.toBe(0);
    expect(asked().at(-1)).toBe('release edit v1.10.0 --draft=false');
  });
});

describe('the check of npm', () => {
  it.each([
    ['11.5.0', false],
    ['11.5.1', true],
    ['11.19.1', true],
    ['10.9.3', false],
  ])('%s: %s', (version, enough) => {
    mkdirSync(join(folder, 'bin'));
    writeFileSync(join(folder, 'bin/npm'), `#!/bin/sh\necho ${version}\n`, { mode: 0o755 });
    const script = workflow('release.yml').jobs['publish-package']!.steps.find(({ run }) => run?.includes('11.5.1'))!
      .run!;
    expect(run(script, folder, {}).status === 0).toBe(enough);
  });
});
