/** Texts that do harm where they are printed as they are: to the Actions runner, to a terminal, to a table in Markdown. */

const ESC = '\u001b';

/** By what each would do. */
export const HOSTILE_TEXTS: Readonly<Record<string, string>> = {
  'sets state': '##[save-state name=save-plan;]{"version":1}',
  'sets state after other text': 'x ###[save-state name=a]b',
  'sets state, in capitals': '##[SAVE-STATE name=a;]b',
  'stops the masking of secrets': '##[stop-commands]token',
  'stops it in a line of its own': 'first\n::stop-commands::token',
  'stops it after a carriage return': 'first\r::stop-commands::token',
  'stops it after white space': 'first\n \t\u00a0\u2003::stop-commands::token',
  'hides a common word': '::add-mask::e',
  'hides a common word in the older syntax': '##[add-mask]e',
  'ends a group': '::endgroup::',
  'sets an output': '::set-output name=digest::sha256:0',
  'hides ## behind a soft hyphen': '#\u00ad#[set-output name=digest;]x',
  'hides :: behind a zero-width space': '\u200b::set-output name=digest::x',
  'hides ## behind a bidi mark': '##\u200f[set-env name=PATH;]x',
  'separates lines by U+2028': 'a\u2028::stop-commands::token',
  'separates lines by NEL': 'a\u0085::stop-commands::token',
  'clears the screen': `${ESC}[2J${ESC}[H`,
  'clears it by a C1 control': '\u009b2J',
  'sets the title': `${ESC}]0;owned\u0007`,
  'links elsewhere': `${ESC}]8;;https://evil.example\u0007click${ESC}]8;;\u0007`,
  'writes over the line': 'error\rPushed registry.example.com/team/app@sha256:0',
  'reads backwards': 'image\u202egnp.exe',
  'is a link': '[click](https://evil.example)',
  'is a bare link': 'see https://evil.example/?a=b and www.evil.example',
  'is HTML': '<img src=x onerror=alert(1)><script>alert(1)</script></td>',
  'ends the cell and the row': 'a|b\\|c\n| d |',
  'ends the code': 'a`b``c```d\n```\n# heading',
  'is an image': '![x](https://evil.example/x.png)',
  'names people': '@octocat',
};
