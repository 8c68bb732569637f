import type { Call } from '../../core/call.js';
import type { CallEventBus, DeadLetterKind } from '../../core/call-events.js';
import { Distribution, REQUEST_SECONDS } from './distribution.js';
import { COMPLETED, OutcomeCodes } from './outcome-codes.js';

/** The label of requests for actions that are not served. */
const UNKNOWN = 'unknown';
const ATTEMPTS = [1, 2, 3, 5, 10, 30, 100] as const;
/** The buckets that OpenTelemetry's conventions name for `messaging.process.duration`, in seconds. */
const PROCESS_SECONDS = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10] as const;

/** Replies by the door of their requests. */
type Doors = Record<Call['door'], number>;

/** What is counted of the requests for one action. */
export class ActionMetrics {
  waiting = 0;
  running = 0;
  coalesced = 0;
  denied = 0;
  released = 0;
  dropped = 0;
  unanswered = 0;
  readonly wait = new Distribution(REQUEST_SECONDS);
  readonly run = new Distribution(REQUEST_SECONDS);
  readonly reply = new Distribution(REQUEST_SECONDS);
  readonly attempts = new Distribution(ATTEMPTS);
  /** By code, then by encoding. */
  readonly outcomes = new Map<string, Map<string, Doors>>();
}

/** A call that has not ended. */
class OpenCall {
  readonly action: ActionMetrics;
  /** In the clock's milliseconds. */
  readonly receivedAt: number;
  beganAt = 0;
  settledAt: number;
  state: 'received' | 'waiting' | 'running' | 'settled' = 'received';

  constructor(action: ActionMetrics, at: number) {
    this.action = action;
    this.receivedAt = at;
    this.settledAt = at;
  }
}

/** Counts requests by their events. It is on the path of every request: see decision 24. */
export class RequestMetrics {
  /** By name. */
  readonly actions: ReadonlyMap<string, ActionMetrics>;
  /** The time from the arrival of a request to its reply, by its outcome. */
  readonly processed = new Map<string, Distribution>();
  readonly deadLetters: Record<DeadLetterKind, number> = { invalid: 0, worker_lost: 0, defect: 0 };
  /** How many requests wait or run for clusters that do not respond. */
  withoutResponse = 0;
  readonly #unknown = new ActionMetrics();
  readonly #codes = new OutcomeCodes();
  readonly #open = new WeakMap<Call, OpenCall>();

  /** @param actions the names of those that are served; a request for any other one counts as `unknown` */
  constructor(events: CallEventBus, actions: readonly string[]) {
    this.actions = new Map([
      ...actions.map((name) => [name, new ActionMetrics()] as const),
      [UNKNOWN, this.#unknown],
    ]);
    this.#listen(events);
  }

  #listen(events: CallEventBus): void {
    const open = this.#open;
    events.on('received', ({ call, at }) => {
      const action = this.#actionOf(call);
      action.attempts.observe(call.attempt);
      open.set(call, new OpenCall(action, at));
    });
    events.on('admitted', ({ call }) => {
      const known = open.get(call);
      if (known === undefined) return;
      known.state = 'waiting';
      known.action.waiting++;
    });
    events.on('denied', ({ call }) => {
      this.#actionOf(call).denied++;
    });
    events.on('began', ({ call, at, sharedRun }) => {
      const known = open.get(call);
      // A change may begin twice: after it was found out what an earlier delivery has done.
      if (known?.state !== 'waiting') return;
      const { action } = known;
      leaveWaiting(call, known, at);
      action.running++;
      known.beganAt = at;
      known.state = 'running';
      if (sharedRun !== undefined && sharedRun !== call.id) action.coalesced++;
    });
    events.on('settled', ({ call, at }) => {
      const known = open.get(call);
      if (known !== undefined) leave(call, known, at);
    });
    events.on('released', ({ call, at }) => {
      const known = open.get(call);
      if (known === undefined) return;
      leave(call, known, at);
      known.action.released++;
      open.delete(call);
    });
    events.on('answered', ({ call, reply, dropped, at }) => {
      const known = open.get(call);
      if (known === undefined) return;
      open.delete(call);
      const { action, receivedAt, settledAt } = known;
      action.reply.observe((at - settledAt) / 1_000);
      if (dropped) action.dropped++;
      const code = reply.status === 'completed' ? COMPLETED : this.#codes.labelOf(reply.body.code);
      doorsOf(action, code, call.encoding)[call.door]++;
      this.#processedAs(code).observe((at - receivedAt) / 1_000);
    });
    events.on('unanswered', ({ call }) => {
      this.#actionOf(call).unanswered++;
      open.delete(call);
    });
    events.on('deadLettered', ({ kind }) => {
      this.deadLetters[kind]++;
    });
    events.on('withoutResponse', ({ calls }) => {
      this.withoutResponse = calls;
    });
  }

  #actionOf({ action }: Call): ActionMetrics {
    return (typeof action === 'string' ? this.actions.get(action) : undefined) ?? this.#unknown;
  }

  #processedAs(code: string): Distribution {
    let processed = this.processed.get(code);
    if (processed === undefined) {
      processed = new Distribution(PROCESS_SECONDS);
      this.processed.set(code, processed);
    }
    return processed;
  }
}

/** Counts that a call does not wait or run any more. */
function leave(call: Call, known: OpenCall, at: number): void {
  if (known.state === 'waiting') leaveWaiting(call, known, at);
  if (known.state === 'running') {
    known.action.running--;
    known.action.run.observe((at - known.beganAt) / 1_000);
  }
  known.state = 'settled';
  known.settledAt = at;
}

function leaveWaiting({ waitedMs }: Call, { action, receivedAt }: OpenCall, at: number): void {
  action.waiting--;
  action.wait.observe((waitedMs + at - receivedAt) / 1_000);
}

function doorsOf({ outcomes }: ActionMetrics, code: string, encoding: string): Doors {
  let encodings = outcomes.get(code);
  if (encodings === undefined) {
    encodings = new Map();
    outcomes.set(code, encodings);
  }
  let doors = encodings.get(encoding);
  if (doors === undefined) {
    doors = { amqp: 0, http: 0, manager: 0 };
    encodings.set(encoding, doors);
  }
  return doors;
}
