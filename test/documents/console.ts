/** A command that a page shows after a prompt, and the output that it shows for it. */
export interface ShownCommand {
  command: string;
  output: string;
}

/** Reads a block of the language `console`: lines after `$ ` are commands, which go on after a backslash; the others are output. */
export function shownCommands(text: string): ShownCommand[] {
  const commands: ShownCommand[] = [];
  let goesOn = false;
  for (const line of text.split('\n')) {
    const last = commands.at(-1);
    if (line.startsWith('$ ')) commands.push({ command: line.slice(2), output: '' });
    else if (last === undefined) throw new Error(`a block begins with output: ${line}`);
    else if (goesOn) last.command += `\n${line}`;
    else last.output += `${line}\n`;
    goesOn = (line.startsWith('$ ') || goesOn) && line.endsWith('\\');
  }
  return commands;
}

/**
 * What real output must be like. `...` on a page stands for anything; numbers, times, hashes and ids differ each time, and white space
 * is not compared.
 */
export function patternOf(output: string): RegExp {
  const parts = output
    .trim()
    .split(/(\.\.\.|[0-9a-f-]{32,36}|\d+(?:\.\d+)*|\s+)/)
    .map((part, at) => (at % 2 === 0 ? escaped(part) : varying(part)));
  return new RegExp(`^\\s*${parts.join('')}\\s*$`);
}

function varying(part: string): string {
  if (part === '...') return '[^]*';
  if (/^\s+$/.test(part)) return '\\s+';
  return /^[\d.]+$/.test(part) ? '\\d+(?:\\.\\d+)*' : '[0-9a-f-]{32,36}';
}

function escaped(text: string): string {
  return text.replaceAll(/[$()*+./?[\\\]^{|}-]/g, String.raw`\$&`);
}
