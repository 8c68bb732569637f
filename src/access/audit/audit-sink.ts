/** One line on its way to where it is kept. */
export interface SinkLine {
  /** The same each time that it is written, and for no other line. */
  readonly id: string;
  /** JSON, without a line break. */
  readonly text: string;
}

/** What came of an attempt to write lines. */
export interface Written {
  /** How many of the first lines are kept. The others may be kept too, and are to be written again. */
  readonly kept: number;
  /** Why not all are, for people; undefined: all are. */
  readonly problem?: string | undefined;
}

/** Where the lines of the audit are kept. */
export interface AuditSink {
  /** Never rejects. The next call comes when this one has settled. */
  write(lines: readonly SinkLine[]): Promise<Written>;
  close(): Promise<void>;
}
