/** The text of --help: flags by groups, an example for each. */

import { COMMANDS, FLAGS, type Flag, GROUPS, SHELLS, type Shell } from './flags.ts';

/** Fits a terminal of 80 columns. */
const COLUMNS = 79;

/** The column where the text about a flag begins. */
const INDENT = 29;

const HEAD = `Usage: chunked-push IMAGE [--to REFERENCE]...
       chunked-push --image IMAGE --image IMAGE...
       chunked-push --merge REFERENCE... --to REFERENCE...
       chunked-push doctor REGISTRY/REPOSITORY
       chunked-push completion bash|zsh

Pushes a container image to OCI registries in chunks.

IMAGE is an image name or ID in Docker or Podman, or a file source:
  docker-archive:FILE[:REF]  oci-archive:FILE[:REF]  oci:DIR[:REF]
(FILE may be -, for standard input), or an image in a registry:
  docker://REFERENCE

doctor says what a registry and what is in front of it take, and which inputs
follow. completion prints the shell's completion:
  source <(chunked-push completion bash)
`;

const TAIL = `Prints REGISTRY/REPOSITORY@DIGEST on standard output; all else goes to
standard error, with colours on a terminal unless NO_COLOR is set.
Exit codes: 0 pushed, 1 failed, 2 wrong usage, 130 cancelled.
`;

export const USAGE = [HEAD, ...GROUPS.map(({ title, example, flags }) => group(title, example, flags)), TAIL].join(
  '\n',
);

function group(title: string, example: string, flags: readonly Flag[]): string {
  return [`${title}:`, ...flags.flatMap(linesOf), ...exampleLines(example), ''].join('\n');
}

function linesOf({ name, value, help, short }: Flag): string[] {
  const head = `  --${name}${value === undefined ? '' : ` ${value}`}${short === undefined ? '' : `, -${short}`}`;
  const lines = wrapped(help, COLUMNS - INDENT);
  const isLong = head.length >= INDENT - 1;
  const rest = (isLong ? lines : lines.slice(1)).map((line) => ' '.repeat(INDENT) + line);
  return [isLong ? head : head.padEnd(INDENT) + lines[0], ...rest];
}

/** A command that is too long for one line goes on after a backslash, as in a shell. */
function exampleLines(example: string): string[] {
  if (example.length + 4 <= COLUMNS) return [`  $ ${example}`];
  const at = example.lastIndexOf(' --');
  return [`  $ ${example.slice(0, at)} \\`, `     ${example.slice(at)}`];
}

function wrapped(text: string, columns: number): string[] {
  const lines = [''];
  for (const word of text.split(' ')) {
    const last = lines.at(-1)!;
    if (last !== '' && last.length + word.length + 1 > columns) lines.push(word);
    else lines[lines.length - 1] = last === '' ? word : `${last} ${word}`;
  }
  return lines;
}

// Shell completion, made of the table of flags: `source <(chunked-push completion bash)`.

/** The completion of a shell as a script. */
export const completionOf = (shell: Shell): string => (shell === 'bash' ? bash() : zsh());

const options = FLAGS.map(({ name }) => `--${name}`).join('\\n');

/** Flags with values: a list of them, files, or anything else. */
const withChoices = FLAGS.filter((flag): flag is Flag & { choices: readonly string[] } => flag.choices !== undefined);
const withFiles = FLAGS.filter(({ value }) => value === 'FILE');
const withValues = FLAGS.filter(
  ({ value, choices }) => value !== undefined && value !== 'FILE' && choices === undefined,
);

// `=` parts words for bash: `--engine=do` comes as three of them. Names of files may have spaces.
const bash = (): string => `# bash completion of chunked-push
_chunked_push() {
  local IFS=$'\\n'
  local current=\${COMP_WORDS[COMP_CWORD]} previous=\${COMP_WORDS[COMP_CWORD - 1]}
  if [[ $current == = ]]; then
    current=
  elif [[ $previous == = ]]; then
    previous=\${COMP_WORDS[COMP_CWORD - 2]}
  fi
  case $previous in
${withChoices.map(({ name, choices }) => `    --${name}) COMPREPLY=($(compgen -W $'${choices.join('\\n')}' -- "$current")); return ;;`).join('\n')}
    ${withFiles.map(({ name }) => `--${name}`).join('|')})
      compopt -o filenames 2>/dev/null
      COMPREPLY=($(compgen -f -- "$current"))
      return ;;
    ${withValues.map(({ name }) => `--${name}`).join('|')}) return ;;
    completion) COMPREPLY=($(compgen -W $'${SHELLS.join('\\n')}' -- "$current")); return ;;
  esac
  if [[ $current == -* ]]; then
    COMPREPLY=($(compgen -W $'${options}' -- "$current"))
  elif [[ $COMP_CWORD -eq 1 ]]; then
    COMPREPLY=($(compgen -W $'${COMMANDS.join('\\n')}' -- "$current"))
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
  return `'${multiple ? '*' : ''}--${name}${value === undefined ? '' : '='}[${text}]${value === undefined ? '' : `:${value}:${action}`}'`;
}
