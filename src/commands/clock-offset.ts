/** A larger difference between two clocks is reported, in milliseconds. */
const TOLERATED_MS = 1_000;

/** A clock that was asked for its time; all times in milliseconds since the epoch. */
export interface ClockReading {
  time: number;
  /** The precision of `time`, which is rounded down. */
  precisionMs: number;
  /** This host's time before the question. */
  askedAt: number;
  /** This host's time after the answer. */
  answeredAt: number;
}

/** Describes how the clock differs from this host's; undefined when it may differ by a second or less. */
export function clockDifference({
  time,
  precisionMs,
  askedAt,
  answeredAt,
}: ClockReading): string | undefined {
  const least = time - answeredAt;
  const most = time + precisionMs - askedAt;
  if (least > TOLERATED_MS) return `${seconds(least)} ahead of the clock of this host`;
  if (most < -TOLERATED_MS) return `${seconds(-most)} behind the clock of this host`;
  return undefined;
}

function seconds(ms: number): string {
  return `${(ms / 1_000).toFixed(1)} s`;
}
