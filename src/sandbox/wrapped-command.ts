import { remoteCommand } from '../ssh/remote-command.js';

/** The input of `remoteCommand`. */
export interface WrappedCommand {
  argv: readonly [string, ...string[]];
  sudo: boolean;
  /** The host should end the command after this many seconds. */
  limitSeconds: number;
}

/**
 * Finds the program and its arguments in a command line of `remoteCommand`. Undefined for any other text: the result is
 * wrapped again, and must give exactly the same line.
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
    // It is too long, or contains text that no argument can carry.
    return false;
  }
}
