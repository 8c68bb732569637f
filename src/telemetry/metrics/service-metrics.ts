/** The service as it is now. */
export interface ServiceState {
  /** Whether it takes requests, and its gateway can send them. */
  ready: boolean;
  connected: boolean;
  preferred: boolean;
  blocked: boolean;
  /** The number of messages that are not acknowledged. */
  held: number;
}

/** How many messages are ready in a queue. */
interface QueueDepth {
  queue: string;
  role: string;
  messages: number;
}

/** What is looked at when somebody asks. */
export interface ObservedState {
  now: () => ServiceState;
  /** Must not take longer than a second. */
  depths: () => Promise<readonly QueueDepth[]>;
}

/** Counts what happens on the connection to the broker. */
export class ServiceMetrics {
  connections = 0;
  readonly consumed = { requests: 0, suspects: 0 };
  readonly redelivered = { requests: 0, suspects: 0 };

  /** A message was delivered. */
  delivered({ suspect, redelivered }: { suspect: unknown; redelivered: boolean }): void {
    const queue = suspect === undefined ? 'requests' : 'suspects';
    this.consumed[queue]++;
    if (redelivered) this.redelivered[queue]++;
  }

  /** A connection to a broker is used from now on. */
  connected(): void {
    this.connections++;
  }
}
