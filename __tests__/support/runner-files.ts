/** What an action tells the runner: values in command files, and workflow commands among the lines of its log. */

/** A command file: `name=value` lines and `name<<DELIMITER` blocks. Throws an Error at anything else, as the runner does. */
export const readValues = (text: string): Readonly<Record<string, string>> => {
  const values: Record<string, string> = {};
  const lines = text.split('\n');
  for (let line = lines.shift(); line !== undefined; line = lines.shift()) {
    if (line === '') continue;
    const block = /^([^=]+?)<<(.+)$/.exec(line);
    if (block === null) {
      const [name = '', ...value] = line.split('=');
      if (value.length === 0) throw new Error(`not a line of a command file: ${line}`);
      values[name] = value.join('=');
      continue;
    }
    const end = lines.indexOf(block[2]!);
    if (end === -1) throw new Error(`${block[1]}: the delimiter ${block[2]} does not come again`);
    values[block[1]!] = lines
      .splice(0, end + 1)
      .slice(0, -1)
      .join('\n');
  }
  return values;
};

export interface WorkflowCommands {
  /** Values that must not be seen in the log: what `::add-mask::` named. */
  readonly masks: readonly string[];
  /** Titles of `::group::`, in order. */
  readonly groups: readonly string[];
  readonly errors: readonly string[];
  readonly warnings: readonly string[];
  readonly notices: readonly string[];
  readonly debugs: readonly string[];
  /** The log as a reader of the web page has it: without masks and debug lines, secrets replaced by `***`. */
  readonly visible: string;
}

const COMMAND = /^::([a-z-]+)(?: .*?)?::(.*)$/;

/** The workflow commands of a log. */
export const readCommands = (log: string): WorkflowCommands => {
  const commands = log.split(/\r?\n/).map((line) => {
    const [, name = '', value = ''] = COMMAND.exec(line) ?? [];
    return { line, name, value: unescaped(value) };
  });
  const named = (name: string) => commands.filter((command) => command.name === name).map((command) => command.value);
  const masks = named('add-mask');
  const shown = commands.filter(({ name }) => name !== 'add-mask' && name !== 'debug').map(({ line }) => line);
  const masked = masks
    .filter((secret) => secret !== '')
    .reduce((text, secret) => text.replaceAll(secret, '***'), shown.join('\n'));
  return {
    masks,
    groups: named('group'),
    errors: named('error'),
    warnings: named('warning'),
    notices: named('notice'),
    debugs: named('debug'),
    visible: masked,
  };
};

/** How @actions/core escapes the value of a command. */
const unescaped = (text: string): string => text.replaceAll('%0A', '\n').replaceAll('%0D', '\r').replaceAll('%25', '%');

/** A command as the runner takes it from a line of a log. */
export interface RunnerCommand {
  readonly syntax: '::' | '##[';
  readonly name: string;
  readonly line: string;
}

/** What actions/runner registers: src/Runner.Worker/ActionCommandManager.cs and the extensions that it loads. Compared without case. */
const REGISTERED = new Set(
  (
    'set-env set-output save-state add-mask add-path add-matcher remove-matcher stop-commands ' +
    'debug warning error notice group endgroup echo internal-set-repo-path'
  ).split(' '),
);

/** Characters without a weight of their own: .NET's StartsWith and IndexOf compare by culture, and do not see them. */
const WEIGHTLESS = /[\p{Cf}\p{Default_Ignorable_Code_Point}\u0000]/gu;

/**
 * The commands that the runner would execute, by the rules of src/Runner.Common/ActionCommand.cs: lines end at LF, CRLF and CR; after
 * white space `::name props::data`, else `##[name props]data` at the first `##[` of the line.
 */
export const runnerCommands = (log: string): readonly RunnerCommand[] =>
  log.split(/\r\n|\r|\n/).flatMap((written): RunnerCommand[] => {
    const line = written.replace(WEIGHTLESS, '');
    const name = commandName(line.replace(/^[\s\u0085]+/u, ''), '::', '::', true);
    if (name !== undefined) return [{ syntax: '::', name, line: written }];
    const older = commandName(line, '##[', ']', false);
    return older === undefined ? [] : [{ syntax: '##[', name: older, line: written }];
  });

function commandName(line: string, prefix: string, end: string, atStart: boolean): string | undefined {
  const start = line.indexOf(prefix);
  if (start === -1 || (atStart && start > 0)) return undefined;
  const stop = line.indexOf(end, start + prefix.length);
  if (stop === -1) return undefined;
  const name = line
    .slice(start + prefix.length, stop)
    .split(' ', 1)[0]!
    .toLowerCase();
  return REGISTERED.has(name) ? name : undefined;
}
