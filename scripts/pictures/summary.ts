/** The summary in a browser: Markdown by cmark-gfm, which is GitHub's renderer, the page by chromium (Debian: cmark-gfm, chromium). */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Theme } from './svg.ts';

const WIDTH = 980;

const CSS: Readonly<Record<Theme, string>> = {
  light: 'background:#fff;color:#1f2328;--line:#d1d9e0;--code:#818b981f;--block:#f6f8fa',
  dark: 'background:#0d1117;color:#f0f6fc;--line:#3d444d;--code:#656c7633;--block:#151b23',
};

const page = (theme: Theme, html: string): string => `<!doctype html><meta charset="utf-8"><style>
body{${CSS[theme]};font:14px/1.5 "DejaVu Sans",sans-serif;margin:0;padding:24px;width:${WIDTH - 48}px}
h3{margin:0 0 12px}table{border-collapse:collapse;margin:16px 0}th,td{border:1px solid var(--line);padding:5px 11px}
code,pre{font:12px/1.45 "DejaVu Sans Mono",monospace}code{background:var(--code);border-radius:5px;padding:2px 5px}
pre{background:var(--block);border-radius:6px;padding:14px;overflow:hidden}pre code{background:none;padding:0}
</style><body>${html}`;

/** Writes `summary-light.png` and `summary-dark.png`. Throws when one of the tools is missing or fails. */
export async function screenshots(markdown: string, folder: string): Promise<void> {
  const html = output(
    'cmark-gfm',
    ['--extension', 'table', '--extension', 'autolink', '--extension', 'tagfilter'],
    markdown,
  );
  const work = mkdtempSync(join(tmpdir(), 'chunked-push-summary-'));
  try {
    for (const theme of ['light', 'dark'] as const) {
      const file = join(work, `${theme}.html`);
      writeFileSync(file, page(theme, html));
      // As high as the page is: its own measure of itself, written into its title.
      const height = heightOf(file, work);
      const shot = [`--screenshot=${join(folder, `summary-${theme}.png`)}`, `--window-size=${WIDTH},${height}`];
      chromium([...shot, '--force-device-scale-factor=1.5'], file, work);
    }
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

function heightOf(file: string, work: string): number {
  const probe = join(work, 'probe.html');
  const frame = `<iframe src="${file}" style="border:0;width:${WIDTH}px"></iframe>`;
  const script = `<script>onload=()=>{const f=document.querySelector('iframe');document.title=f.contentDocument.documentElement.scrollHeight}</script>`;
  writeFileSync(probe, frame + script);
  const dom = chromium(['--dump-dom', '--allow-file-access-from-files', `--window-size=${WIDTH},800`], probe, work);
  return Number(/<title>(\d+)<\/title>/.exec(dom)?.[1] ?? 900);
}

const chromium = (args: readonly string[], file: string, work: string): string =>
  output('chromium', [
    ...['--headless', '--no-sandbox', '--disable-gpu', '--hide-scrollbars', `--user-data-dir=${join(work, 'profile')}`],
    ...args,
    `file://${file}`,
  ]);

function output(command: string, args: readonly string[], input = ''): string {
  const { stdout, stderr, status, error } = spawnSync(command, args, { input, encoding: 'utf8', timeout: 120_000 });
  if (error) throw new Error(`${command}: ${error.message}: install it (Debian: apt-get install ${command})`);
  if (status !== 0) throw new Error(`${command} ended with ${status}: ${stderr}`);
  return stdout;
}
