import { remoteCommand } from '../ssh/remote-command.js';

/** What `remoteCommand` was asked to wrap. */
export interface WrappedCommand {
  argv: readonly [string, ...string[]];
  sudo: boolean;
  /** After so many seconds the host is to end the command by itself. */
  limitSeconds: number;
}

/**
 * Finds the program and its arguments in a command line that `remoteCommand` made. Undefined for any other text:
 * what is found is wrapped anew, and must give the same line to the last character.
 */
export function readWrappedCommand(line: string): WrappedCommand | undefined {
  const words = [...line.matchAll(SINGLE_QUOTED)].map(([word]) => word.slice(1, -1).replaceAll(`'\\''`, `'`));
  const sudo = words[0] === 'sudo';
  // sudo -n -- sh -c SCRIPT sh SECONDS PROGRAM ...
  const [seconds = '', program, ...args] = words.slice(sudo ? 7 : 4);
  if (program === undefined || !/^\d+$/.test(seconds)) return undefined;
  const found: WrappedCommand = { argv: [program, ...args], sudo, limitSeconds: Number(seconds) };
  return isMadeFrom(line, found) ? found : undefined;
}

/** A word as `quoteArgv` writes it. */
const SINGLE_QUOTED = /'[^']*(?:'\\''[^']*)*'/g;

function isMadeFrom(line: string, { argv, ...options }: WrappedCommand): boolean {
  try {
    return remoteCommand(argv, options) === line;
  } catch {
    // It is too long, or holds what no argument can.
    return false;
  }
}
