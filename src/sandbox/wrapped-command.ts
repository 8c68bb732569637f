import { remoteCommand } from '../ssh/remote-command.js';

/** The command that `remoteCommand` wrapped. */
export interface WrappedCommand {
  argv: readonly [string, ...string[]];
  sudo: boolean;
  /** The time limit, in seconds, after which the host ends the command. */
  limitSeconds: number;
}

/**
 * Reads the program and its arguments from a command line of `remoteCommand`. Undefined for any other text: wrapping the
 * result again must give exactly the same line.
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
    // It is too long, or contains a character that no argument can.
    return false;
  }
}
