import type { Command, Option } from 'commander';
import { table } from '../src/commands/action-docs.js';
import { program } from '../src/commands/command-line.js';

/** What `--help` says of a command. */
interface CommandPage {
  /** With its arguments: `errors show <id>`. */
  usage: string;
  about: string;
  /** Flags and meaning of each option. */
  options: [flags: string, about: string][];
}

/** A page for each command that does something, in the order of `--help`. */
function commandPages(): CommandPage[] {
  const whole = program({
    done: () => {},
    onUsageError: () => {},
    source: { env: {}, directory: '/nonexistent' },
    warnings: undefined,
  });
  return pagesOf(whole, '');
}

function pagesOf(command: Command, path: string): CommandPage[] {
  const help = command.createHelp();
  return help.visibleCommands(command).flatMap((each) => {
    if (each.name() === 'help') return [];
    const name = `${path}${each.name()}`;
    if (each.commands.length > 0) return pagesOf(each, `${name} `);
    const args = each.registeredArguments.map((argument) => {
      const text = argument.variadic ? `${argument.name()}...` : argument.name();
      return argument.required ? `<${text}>` : `[${text}]`;
    });
    return [
      {
        usage: [name, ...args].join(' '),
        about: each.description(),
        options: each.options.map((option) => [
          option.flags,
          aboutOption(help.optionDescription(option), option),
        ]),
      },
    ];
  });
}

/** With the mark of what a command cannot do without. */
function aboutOption(text: string, { mandatory }: Option): string {
  return mandatory ? `${text} (required)` : text;
}

/** The lines of the section of each command in docs/commands.md. */
export function commandSections(): string[] {
  const lines = commandPages().flatMap(({ usage, about, options }) => {
    const rows = options.map(([flags, text]) => [`\`${flags}\``, text]);
    return [
      `### \`fleet-manager ${usage}\``,
      '',
      `${about[0]?.toUpperCase()}${about.slice(1)}.`,
      '',
      ...(rows.length > 0 ? [...table(['option', 'meaning'], rows), ''] : []),
    ];
  });
  return lines.slice(0, -1);
}
