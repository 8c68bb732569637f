import type { Clock } from '../../lib/clock.js';
import type { UpstreamCall, UpstreamKind, WatchUpstream } from '../../lib/upstream.js';
import { Distribution } from './distribution.js';

/** The label of all operations beyond the limit. */
const OTHER = 'other';
/** How many operations of each kind are told apart: a plugin may run a program by any name. */
const MAX_OPERATIONS = 30;
const MAX_CHARACTERS = 64;
/** From a call on loopback to a hung host, in seconds. */
const SECONDS = [0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60] as const;

/** What is counted of the calls of one operation. */
export class OperationMetrics {
  inProgress = 0;
  ok = 0;
  failed = 0;
  /** Ended here, before they had a result. */
  stopped = 0;
  readonly seconds = new Distribution(SECONDS);
}

/** Counts calls to other servers by kind and operation. */
export class UpstreamMetrics {
  /** By kind, then by operation. */
  readonly kinds = new Map<UpstreamKind, Map<string, OperationMetrics>>();
  readonly #clock: Clock;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  readonly watch: WatchUpstream = (kind, operation): UpstreamCall => {
    const counted = this.#countedAs(kind, operation);
    const clock = this.#clock;
    const begun = clock.now();
    counted.inProgress++;
    return {
      end: (error, wasStopped) => {
        counted.inProgress--;
        counted.seconds.observe((clock.now() - begun) / 1_000);
        if (wasStopped === true) counted.stopped++;
        else if (error === undefined) counted.ok++;
        else counted.failed++;
      },
    };
  };

  #countedAs(kind: UpstreamKind, operation: string): OperationMetrics {
    let operations = this.kinds.get(kind);
    if (operations === undefined) {
      operations = new Map();
      this.kinds.set(kind, operations);
    }
    const known = operations.get(operation);
    if (known !== undefined) return known;
    if (operation !== OTHER && (operations.size >= MAX_OPERATIONS || operation.length > MAX_CHARACTERS))
      return this.#countedAs(kind, OTHER);
    const counted = new OperationMetrics();
    operations.set(operation, counted);
    return counted;
  }
}
