/** Shell completion, made of the table of flags: `source <(chunked-push completion bash)`. */

import { COMMANDS, FLAGS, type Flag } from './flag-table.ts';

export const SHELLS = ['bash', 'zsh'] as const;
export type Shell = (typeof SHELLS)[number];

/** The completion of a shell as a script. */
export const completionOf = (shell: Shell): string => (shell === 'bash' ? bash() : zsh());

const options = FLAGS.map(({ name }) => `--${name}`).join(' ');

/** Flags with values: a list of them, files, or anything else. */
const withChoices = FLAGS.filter((flag): flag is Flag & { choices: readonly string[] } => flag.choices !== undefined);
const withFiles = FLAGS.filter(({ value }) => value === 'FILE');
const withValues = FLAGS.filter(
  ({ value, choices }) => value !== undefined && value !== 'FILE' && choices === undefined,
);

const bash = (): string => `# bash completion of chunked-push
_chunked_push() {
  local current=\${COMP_WORDS[COMP_CWORD]} previous=\${COMP_WORDS[COMP_CWORD - 1]}
  case $previous in
${withChoices.map(({ name, choices }) => `    --${name}) COMPREPLY=($(compgen -W '${choices.join(' ')}' -- "$current")); return ;;`).join('\n')}
    ${withFiles.map(({ name }) => `--${name}`).join('|')}) COMPREPLY=($(compgen -f -- "$current")); return ;;
    ${withValues.map(({ name }) => `--${name}`).join('|')}) return ;;
    completion) COMPREPLY=($(compgen -W '${SHELLS.join(' ')}' -- "$current")); return ;;
  esac
  if [[ $current == -* ]]; then
    COMPREPLY=($(compgen -W '${options}' -- "$current"))
  elif [[ $COMP_CWORD -eq 1 ]]; then
    COMPREPLY=($(compgen -W '${COMMANDS.join(' ')}' -- "$current"))
  fi
}
complete -F _chunked_push chunked-push
`;

const zsh = (): string => `#compdef chunked-push
# zsh completion of chunked-push
_chunked_push() {
  if (( CURRENT == 3 )) && [[ $words[2] == completion ]]; then
    compadd ${SHELLS.join(' ')}
    return
  fi
  _arguments \\
${FLAGS.map((flag) => `    ${zshFlag(flag)} \\`).join('\n')}
    '1:image:(${COMMANDS.join(' ')})' \\
    '*:reference:'
}
if [[ $funcstack[1] == _chunked_push ]]; then _chunked_push "$@"; else compdef _chunked_push chunked-push; fi
`;

function zshFlag({ name, help, value, choices, multiple }: Flag): string {
  const text = help.replaceAll("'", "'\\''").replace(/[[\]:]/g, (character) => `\\${character}`);
  const action = choices !== undefined ? `(${choices.join(' ')})` : value === 'FILE' ? '_files' : ' ';
  return `'${multiple ? '*' : ''}--${name}[${text}]${value === undefined ? '' : `:${value}:${action}`}'`;
}
