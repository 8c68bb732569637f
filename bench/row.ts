/** What one row of the benchmark has measured. */
export interface Measurement {
  /** One line of the table for each subject; the keys of its figures are the columns, each with its unit, such as `p50 ms`. */
  lines: { subject: string; figures: Record<string, number> }[];
  goals: Goal[];
}

/** What a figure, usually a ratio of two lines, should be. */
export interface Goal {
  /** Such as `server CPU at 64 in flight, against bare amqplib`. */
  what: string;
  measured: number;
  /** `at most` is the default. */
  bound?: 'at most' | 'at least';
  limit: number;
  /** Such as `ms`; none for a ratio. */
  unit?: string;
}

export interface BenchOptions {
  /** The URL of a private RabbitMQ. */
  brokerUrl: string;
  /** How often each subject of a row is measured, alternately with the others; the figures are medians. */
  rounds: number;
  /** How long one measurement under load takes. */
  seconds: number;
}

/** One part of the benchmark, in a file of its own in `bench/rows/`, which exports it as `row`. */
export interface Row {
  /** `npm run bench -- NAME` runs it alone; the name of its file too. */
  name: string;
  /** What it measures and against what, in a sentence. */
  title: string;
  measure(options: BenchOptions): Promise<Measurement>;
}
