/** GitHub's own validator of workflows and action.yml, as its editor extension runs it. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import type * as LanguageService from '@actions/languageservice';
import { build } from 'esbuild';
import type * as Documents from 'vscode-languageserver-textdocument';
import { parse } from 'yaml';

export const root = fileURLToPath(new URL('../../', import.meta.url));

/** The name under which the docs use this action. */
export const OUR_ACTION = 'org/chunked-push';

type LanguageServiceMetadata = Awaited<ReturnType<LanguageService.ActionsMetadataProvider['fetchActionMetadata']>>;

interface ActionMetadata {
  readonly name: string;
  readonly description: string;
  readonly author: string;
  readonly branding: { readonly icon: string; readonly color: string };
  readonly inputs: Readonly<Record<string, { description?: string; required?: boolean; default?: string }>>;
  readonly outputs: Readonly<Record<string, { description?: string }>>;
  readonly runs: { readonly using: string; readonly main: string; readonly post: string };
}

export const read = (path: string): string => readFileSync(join(root, path), 'utf8');

export const metadata = parse(read('action.yml')) as ActionMetadata;

/** Its packages import JSON in a way that only bundlers understand. */
async function load(): Promise<{ service: typeof LanguageService; documents: typeof Documents }> {
  const folder = mkdtempSync(join(tmpdir(), 'chunked-push-language-service-'));
  try {
    const outfile = join(folder, 'bundle.mjs');
    const contents = `export * as service from '@actions/languageservice';
      export * as documents from 'vscode-languageserver-textdocument';`;
    await build({
      stdin: { contents, resolveDir: root },
      bundle: true,
      platform: 'node',
      format: 'esm',
      outfile,
      logLevel: 'error',
    });
    return await import(pathToFileURL(outfile).href);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

let loaded: ReturnType<typeof load> | undefined;

function loadedOnce(): ReturnType<typeof load> {
  loaded ??= load();
  return loaded;
}

let count = 0;

/** What GitHub would object to in a workflow or an action.yml, as `line: message`; empty when all is well. */
export async function objections(text: string, kind: 'workflow' | 'action'): Promise<readonly string[]> {
  const { service, documents } = await loadedOnce();
  // It keeps what it has parsed by its URI.
  count += 1;
  const folder = `file:///repository${count}`;
  const uri = kind === 'action' ? `${folder}/action.yml` : `${folder}/.github/workflows/it.yml`;
  const found = await service.validate(documents.TextDocument.create(uri, 'yaml', 1, text), {
    actionsMetadataProvider: {
      // Ours is known from action.yml; the other actions would have to be fetched.
      fetchActionMetadata: async ({ owner, name, path }) =>
        [`${owner}/${name}`, path].includes(OUR_ACTION) ? (metadata as LanguageServiceMetadata) : undefined,
    },
  });
  return found
    .filter(({ message }) => !String(message).startsWith('Unable to resolve action'))
    .map(({ range, message }) => `${range.start.line + 1}: ${message}`);
}
