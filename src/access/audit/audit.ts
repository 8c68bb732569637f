import { randomUUID } from 'node:crypto';
import { ActionError } from '../../api/action-error.js';
import type { Cluster } from '../../api/cluster.js';
import type { ActionDescription } from '../../core/action-description.js';
import type { BeforeChange, BeforeNestedChange, BeginningChange } from '../../core/before-change.js';
import type { Call } from '../../core/call.js';
import type { CallEventBus, CallEvents } from '../../core/call-events.js';
import { traceIdOf } from '../../core/trace-id.js';
import type { Clock } from '../../lib/clock.js';
import { untilAborted } from '../../lib/until-aborted.js';
import { type AuditLine, textOf } from './audit-line.js';
import type { AuditQueue } from './audit-queue.js';
import type { SinkLine } from './audit-sink.js';
import { maskedParameters } from './masked-parameters.js';

export interface AuditOptions {
  events: CallEventBus;
  queue: Pick<AuditQueue, 'add' | 'addAwaited'>;
  /** Whether a change must not begin when its line cannot be written. */
  required: boolean;
  /** Whether reads are audited too. */
  reads: boolean;
  /** The name and the version of this worker. */
  worker: string;
  version: string;
  clock: Clock;
}

/** An admitted call that is audited. Times in the clock's milliseconds. */
interface Audited {
  readonly action: ActionDescription;
  readonly cluster: Cluster | undefined;
  readonly units: readonly string[];
  readonly rule: string | undefined;
  readonly id: string;
  /** Undefined: it has not begun. */
  work: BeginningChange['work'] | undefined;
  beganAt: number;
  endedAt: number;
  /** `completed`, or the code of the error. */
  cameTo: string | undefined;
}

const MAX_TEXT = 256;
const MAX_UNITS = 50;
const RETRY_MS = 1_000;

/** Notes who does what: two lines for each change, and one for each request that the policy denies. */
export class Audit {
  readonly #options: AuditOptions;
  readonly #open = new WeakMap<Call, Audited>();

  constructor(options: AuditOptions) {
    this.#options = options;
    const { events } = options;
    events.on('admitted', (event) => this.#admitted(event));
    events.on('denied', (event) => this.#denied(event));
    events.on('began', ({ call, at }) => {
      const audited = this.#open.get(call);
      if (audited === undefined) return;
      audited.work ??= 'run';
      audited.beganAt = at;
    });
    events.on('settled', ({ call, settled, at }) => {
      const audited = this.#open.get(call);
      if (audited === undefined) return;
      audited.cameTo = settled.status === 'completed' ? 'completed' : settled.body.code;
      audited.endedAt = at;
    });
    events.on('released', ({ call, at }) => {
      const audited = this.#open.get(call);
      if (audited === undefined) return;
      audited.endedAt = at;
      this.#settled(call, 'released', undefined);
    });
    events.on('answered', ({ call, reply, dropped }) =>
      this.#settled(
        call,
        reply.status === 'completed' ? 'completed' : reply.body.code,
        dropped ? 'dropped' : 'sent',
      ),
    );
    events.on('unanswered', ({ call }) => this.#settled(call, undefined, 'unanswered'));
  }

  /** @throws ActionError `service_unavailable` when the change must not begin without its line */
  readonly beforeChange: BeforeChange = async (change, signal) => {
    const { call, parameters, work } = change;
    const audited = this.#open.get(call);
    if (audited === undefined) return;
    audited.work = work;
    await this.#begun(call, audited, parameters, signal);
  };

  /** The same for a change within another one, whose end is told to what it returns. */
  readonly beforeNested: BeforeNestedChange = async (change, signal) => {
    const { call, description: action, cluster, units, parameters, rule, work } = change;
    const now = this.#options.clock.now();
    const audited: Audited = {
      action,
      cluster,
      units,
      rule,
      id: randomUUID(),
      work,
      beganAt: now,
      endedAt: now,
      cameTo: undefined,
    };
    await this.#begun(call, audited, parameters, signal);
    this.#open.set(call, audited);
    return (outcome) => {
      audited.endedAt = this.#options.clock.now();
      this.#settled(call, outcome, undefined);
    };
  };

  /** @throws ActionError `service_unavailable` when the change must not begin without its line */
  async #begun(call: Call, audited: Audited, parameters: unknown, signal: AbortSignal): Promise<void> {
    audited.beganAt = this.#options.clock.now();
    const line = this.#line('begun', call, audited, {
      parameters: maskedParameters(parameters, audited.action.parameters),
    });
    const { outcome, withdraw } = this.#options.queue.addAwaited(line);
    let problem: string | undefined;
    try {
      problem = await untilAborted(outcome, signal);
    } catch (reason) {
      // It has no line, or one that says how it ended.
      if (withdraw()) audited.work = undefined;
      throw reason;
    }
    if (problem === undefined || !this.#options.required) return;
    if (withdraw()) audited.work = undefined;
    throw new ActionError(
      'service_unavailable',
      `The change was not begun: it must not begin before it is audited, which is not possible now: ${problem}`,
      { details: { retry_after_ms: RETRY_MS } },
    );
  }

  /** The line that stands for lines that are lost. */
  static gapLine(
    lines: number,
    { worker, version, clock }: Pick<AuditOptions, 'worker' | 'version' | 'clock'>,
  ): SinkLine {
    const id = randomUUID();
    return { id, text: textOf({ time: timeOf(clock), event: 'gap', id, lines, worker, version }) };
  }

  #admitted({ call, action, cluster, units, rule, at }: CallEvents['admitted']): void {
    if (action.effect === 'read' && !this.#options.reads) return;
    this.#open.set(call, {
      action,
      cluster,
      units,
      rule,
      id: randomUUID(),
      work: undefined,
      beganAt: at,
      endedAt: at,
      cameTo: undefined,
    });
  }

  #denied({ call, action, cluster, units, needed }: CallEvents['denied']): void {
    if (action.effect === 'read' && !this.#options.reads) return;
    const line = this.#line(
      'denied',
      call,
      { action, cluster, units, rule: undefined, id: randomUUID(), work: undefined },
      {
        parameters: maskedParameters(call.parameters, action.parameters),
        decision: 'denied',
        needed: cut(needed),
        outcome: 'forbidden',
      },
    );
    this.#options.queue.add(line, { isOfChange: false });
  }

  #settled(call: Call, told: string | undefined, reply: AuditLine['reply']): void {
    const audited = this.#open.get(call);
    if (audited === undefined) return;
    this.#open.delete(call);
    const isRead = audited.action.effect === 'read';
    // A change without a first line has not begun, and changes nothing; what is released is audited where it runs.
    if (isRead ? told === 'released' : audited.work === undefined) return;
    const line = this.#line('settled', call, audited, {
      ...(isRead && { parameters: maskedParameters(call.parameters, audited.action.parameters) }),
      outcome: told ?? audited.cameTo ?? 'unknown',
      reply,
      took_ms: Math.round(audited.endedAt - audited.beganAt),
    });
    this.#options.queue.add(line, { isOfChange: !isRead });
  }

  #line(
    event: AuditLine['event'],
    call: Call,
    { action, cluster, units, rule, id, work }: Omit<Audited, 'beganAt' | 'endedAt' | 'cameTo'>,
    more: Partial<AuditLine>,
  ): SinkLine {
    const { worker, version, clock } = this.#options;
    const line: AuditLine = {
      time: timeOf(clock),
      event,
      id,
      request: cut(call.id),
      caller: cut(call.caller.name),
      verified_by: call.caller.verifiedBy,
      door: call.door,
      action: action.name,
      effect: action.effect,
      work,
      cluster: cluster?.hash,
      cluster_name: cluster?.name,
      units: units.length === 0 ? undefined : units.slice(0, MAX_UNITS).map(cut),
      decision: 'allowed',
      rule,
      ...more,
      attempt: call.attempt,
      trace_id: traceIdOf(call),
      worker: cut(worker),
      version,
    };
    return { id: `${id}.${event}`, text: textOf(line) };
  }
}

function timeOf(clock: Clock): string {
  return new Date(clock.wallTime()).toISOString();
}

function cut(text: string): string {
  return text.length <= MAX_TEXT ? text : `${text.slice(0, MAX_TEXT)}...`;
}
