/**
 * Counts values by size, for a histogram. It replaces that of prom-client where requests are counted: that one takes half a
 * microsecond for each value, mostly to find the labels by a text that it makes of them.
 */
export class Distribution {
  /** The largest value that each part counts, in ascending order; one more part counts all others. */
  readonly bounds: readonly number[];
  readonly counts: number[];
  sum = 0;

  constructor(bounds: readonly number[]) {
    this.bounds = bounds;
    this.counts = Array.from({ length: bounds.length + 1 }, () => 0);
  }

  /** @param value not NaN */
  observe(value: number): void {
    const { bounds, counts } = this;
    let part = 0;
    for (; part < bounds.length; part++) if (value <= (bounds[part] ?? Infinity)) break;
    counts[part] = (counts[part] ?? 0) + 1;
    this.sum += value;
  }
}

/** For what takes from milliseconds to minutes, in seconds: a refused request, a list of a large cluster, a restart of a unit. */
export const REQUEST_SECONDS = [
  0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300,
] as const;
