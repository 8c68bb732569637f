import { remoteCommand, SCRIPT, SUDO } from '../ssh/remote-command.js';
import { scriptInShellLine } from '../ssh/shell-line.js';

/** The command that `remoteCommand` wrapped. */
export interface WrappedCommand {
  argv: readonly [string, ...string[]];
  /** To be printed before and after the output of the command. */
  mark: string;
  sudo: boolean;
  /** The time limit, in seconds, after which the host ends the command. */
  limitSeconds: number;
}

/**
 * Reads the program and its arguments from a command line of `remoteCommand`. Undefined for any other text: wrapping the
 * result again must give exactly the same line.
 */
export function readWrappedCommand(line: string): WrappedCommand | undefined {
  const sudo = line.startsWith("exec 'sudo'");
  const script = scriptInShellLine(sudo ? SUDO : [], line);
  if (script === undefined || !script.endsWith(`\n${SCRIPT}`)) return undefined;
  const parameters = script.slice(0, -SCRIPT.length);
  const words = [...parameters.matchAll(SINGLE_QUOTED)].map(([word]) =>
    word.slice(1, -1).replaceAll(`'\\''`, `'`),
  );
  const [mark = '', seconds = '', program, ...args] = words;
  if (program === undefined || !/^\d+$/.test(seconds)) return undefined;
  const found: WrappedCommand = { argv: [program, ...args], mark, sudo, limitSeconds: Number(seconds) };
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
