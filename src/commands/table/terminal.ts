/** What there is to know of an output before something is printed to it. */
export interface Terminal {
  /** Whether it is a terminal. */
  isTerminal: boolean;
  /** Its columns; undefined: it is a pipe or a file, and nothing is cut. */
  width: number | undefined;
  colours: boolean;
  /** Whether a line can be written over. */
  canRewrite: boolean;
}

/** The width of a terminal that does not tell its own. */
const STANDARD_WIDTH = 80;

/** @param env `NO_COLOR` (no-color.org) turns colours off, `TERM=dumb` everything but text */
export function terminalOf(
  { isTTY, columns }: { isTTY?: boolean; columns?: number },
  env: Readonly<Record<string, string | undefined>>,
): Terminal {
  const isTerminal = isTTY === true;
  const isDumb = env.TERM === 'dumb';
  return {
    isTerminal,
    width: isTerminal ? columns || STANDARD_WIDTH : undefined,
    colours: isTerminal && !isDumb && !env.NO_COLOR,
    canRewrite: isTerminal && !isDumb,
  };
}
