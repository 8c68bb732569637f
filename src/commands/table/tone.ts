/** What a state means to a person who looks for trouble. */
export type Tone = 'bad' | 'between' | 'good';

const BAD = new Set(['failed', 'failure', 'error', 'critical', 'unhealthy', 'not-found']);
const GOOD = new Set(
  'active running listening waiting mounted plugged launched ok healthy up success succeeded completed'.split(
    ' ',
  ),
);
/** Those of systemd on the way from one state to another (`systemctl --state=help`), and similar ones. */
const BETWEEN =
  /^(activating|deactivating|reloading|refreshing|maintenance|auto-restart|start|stop|final|condition|cleaning|warning|pending|degraded)/;

/** Undefined: a state in which something may well be, such as `inactive`. */
export function toneOf(state: string): Tone | undefined {
  const word = state.toLowerCase();
  if (BAD.has(word)) return 'bad';
  if (GOOD.has(word)) return 'good';
  return BETWEEN.test(word) ? 'between' : undefined;
}

/** Of the 16 colours that every terminal has and that its owner can set: red, yellow, green. */
const CODES: Readonly<Record<Tone, number>> = { bad: 31, between: 33, good: 32 };

export function painted(text: string, tone: Tone): string {
  return `\u001b[${CODES[tone]}m${text}\u001b[39m`;
}
