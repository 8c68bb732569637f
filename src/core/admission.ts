import { ActionError } from '../api/action-error.js';
import { Cluster, CLUSTER_TOKEN } from '../api/cluster.js';
import type { AccessPolicy } from './access-policy.js';
import type { ActionDescription } from './action-description.js';
import type { Call, FieldNames } from './call.js';
import type { Catalogue } from './catalogue.js';
import type { CircuitBreaker } from './circuit-breaker.js';
import { type FairQueue, NO_CLUSTER } from './fair-queue.js';
import { callerTimeout, OUTCOME_GRACE_MS } from './caller-timeout.js';
import type { PreparedAction } from './prepare-action.js';
import { invalidRequest } from './call-errors.js';
import type { UnitMarks } from './unit-parameters.js';

export interface AdmissionOptions {
  catalogue: Catalogue;
  names: FieldNames;
  /** The maximum number of calls in the service, waiting and running. */
  maxCalls: number;
  /** The calls that wait and run, in one lane for each cluster, and one for those without a cluster. */
  lanes: Pick<FairQueue, 'count' | 'isUnresponsive' | 'withoutResponse'>;
  breaker: Pick<CircuitBreaker, 'pauseLeft'>;
  /** Whether the workers have a store in which they agree on changes: what it knows then decides on a repeated change. */
  hasClaims: boolean;
  /** Called when a cluster has responded to a call. */
  onResponse: (cluster: Cluster) => void;
  /** Which callers may do what; undefined: all may do everything. */
  policy?: AccessPolicy | undefined;
  /** The name that the operator has given the cluster of a token; by default none has one. */
  clusterName?: ((token: string) => string | undefined) | undefined;
  /** The etcd token of the cluster that has this name, which callers may use in its place; by default no name has one. */
  clusterToken?: ((name: string) => string | undefined) | undefined;
  /** Called when the policy denies a call, before it is refused. */
  onDenied: (denied: Denied) => void;
}

/** A call that the policy denies. */
export interface Denied {
  readonly call: Call;
  readonly action: ActionDescription;
  readonly cluster: Cluster | undefined;
  /** The units that its parameters name. */
  readonly units: readonly string[];
  /** Which rule would allow it, for people. */
  readonly needed: string;
}

/** A call that has been checked. */
export interface Admitted {
  readonly action: PreparedAction;
  readonly cluster: Cluster | undefined;
  /** The lane of the queue: lanes take turns. */
  readonly lane: string;
  /** With defaults filled in. */
  readonly parameters: unknown;
  /** The units that the parameters name, in alphabetical order. */
  readonly unitNames: readonly string[];
  /** The patterns of the units that the caller may see or change; undefined: all. */
  readonly units: readonly string[] | undefined;
  /** The rule of the policy that allows it; undefined: there is no policy. */
  readonly rule: string | undefined;
  /** How long the call may take, in milliseconds; for people. */
  readonly timeoutMs: number;
  /** How much of that is left, in milliseconds. */
  readonly leftMs: number;
  /**
   * For how long it is tried to find out what another worker has made of it, in milliseconds, also when its caller no longer
   * waits; undefined: no other worker can have begun it, or nothing would tell.
   */
  readonly inquiryMs: number | undefined;
}

/** The parameters of a call, when they were checked before it is admitted. */
export interface CheckedParameters {
  readonly parameters: unknown;
  /** How long that took, in milliseconds. */
  readonly tookMs: number;
}

/** The calls of one lane may use this share of `maxCalls`; the rest stays free for the others. */
const SHARE_OF_ONE_LANE = 0.75;
/** When to try again after `cluster_busy`, in milliseconds. */
const BUSY_MS = 1_000;
/** Longer than the claim of a lost worker lives: after that a probe can begin, and needs time. In milliseconds. */
const INQUIRY_MS = 150_000;
/** How long after the caller's time a worker that is alive has reported what it has made of a change, in milliseconds. */
const REPORTED_MS = OUTCOME_GRACE_MS + 10_000;

/** Without a policy. */
const UNRESTRICTED = Object.freeze({ units: undefined, rule: undefined });

/** Decides whether a call may run: action, target, deadline, parameters, its caller's rights, and room in its lane. */
export class Admission {
  readonly #options: AdmissionOptions;

  constructor(options: AdmissionOptions) {
    this.#options = options;
  }

  /**
   * @param checked undefined: they are checked here
   * @throws ActionError with the reason why the call is refused
   */
  admit(call: Call, checked?: CheckedParameters): Admitted {
    const action = this.#actionOf(call);
    const { name, effect, redelivery, timeout_ms: longest } = action.description;
    if (!call.wantsReply && effect === 'read')
      throw new ActionError(
        'invalid_request',
        `The request asks for no reply, and ${name} changes nothing: it is not run`,
      );
    if (call.malformed !== undefined) throw invalidRequest(call.malformed);
    const time = this.timeOf(call);
    const timeoutMs = Math.min(time.callerMs, longest);
    const leftMs = Math.min(time.leftMs - (checked?.tookMs ?? 0), longest);
    const cluster = this.#clusterOf(call, action);
    const parameters = checked === undefined ? action.check(call.parameters) : checked.parameters;
    const unitNames = action.unitsIn(parameters);
    const { units, rule } = this.#authorized(call, { action, cluster, unitNames });
    const isClaimed = this.#options.hasClaims && call.key !== undefined;
    if (call.delivery === 'repeated' && redelivery === 'refuse' && !isClaimed) {
      throw new ActionError(
        'outcome_unknown',
        `This request was delivered before, and a worker may have begun it: ${name} may or may not have been done, and is not run again`,
      );
    }
    const lane = cluster?.key ?? NO_CLUSTER;
    // A refusal would say nothing of what another worker has made of it.
    const isInquired = isClaimed && call.mayBeCopy && effect === 'change';
    const inquiryMs = isInquired ? Math.max(leftMs + REPORTED_MS, INQUIRY_MS) : undefined;
    const admitted = {
      action,
      cluster,
      lane,
      parameters,
      unitNames,
      units,
      rule,
      timeoutMs,
      leftMs,
      inquiryMs,
    };
    if (isInquired) return admitted;
    if (leftMs <= 0) throw timedOut(timeoutMs);
    if (cluster !== undefined) this.#requireReachable(cluster);
    if (this.#options.lanes.count(lane) >= this.roomOf(lane)) throw busy(lane);
    return admitted;
  }

  /**
   * Refuses a call that the policy allows for no unit, whatever its parameters are: to check these can cost much.
   * @throws ActionError `forbidden`, or why the action or the cluster cannot be used
   */
  requireRule(call: Call): void {
    const action = this.#actionOf(call);
    const cluster = this.#clusterOf(call, action);
    this.#authorized(call, { action, cluster, unitNames: [], unitMarks: 'patterns' });
  }

  /** @throws ActionError `forbidden` */
  #authorized(
    call: Call,
    {
      action,
      cluster,
      unitNames,
      unitMarks = action.unitMarks,
    }: Pick<Admitted, 'action' | 'cluster' | 'unitNames'> & { unitMarks?: UnitMarks },
  ): Pick<Admitted, 'units' | 'rule'> {
    const { policy, onDenied } = this.#options;
    if (policy === undefined) return UNRESTRICTED;
    const { description } = action;
    const decision = policy.decide({
      caller: call.caller,
      action: description,
      cluster,
      units: unitNames,
      unitMarks,
    });
    if (decision.allowed) return decision;
    const { needed } = decision;
    onDenied({ call, action: description, cluster, units: unitNames, needed });
    throw new ActionError('forbidden', `The policy of this service does not allow it. ${needed}`);
  }

  /**
   * An action that a running one calls, with checked parameters.
   * @param of the cluster of the request
   * @throws ActionError `forbidden` or `unknown_action`
   */
  admitNested(
    call: Call,
    of: Cluster | undefined,
  ): Pick<Admitted, 'action' | 'cluster' | 'unitNames' | 'units' | 'rule'> {
    const action = this.#actionOf(call);
    const cluster = action.description.target === 'none' ? undefined : of;
    const unitNames = action.unitsIn(call.parameters);
    return { action, cluster, unitNames, ...this.#authorized(call, { action, cluster, unitNames }) };
  }

  /** How many calls of a lane may be held, waiting and running. */
  roomOf(lane: string): number {
    const { lanes, maxCalls } = this.#options;
    const most = maxCalls * SHARE_OF_ONE_LANE;
    if (!lanes.isUnresponsive(lane)) return most;
    // Together as many as `maxCalls`: the transport lets in that many more for the other clusters.
    return Math.min(most, Math.max(1, Math.floor(maxCalls / lanes.withoutResponse.lanes)));
  }

  #actionOf(call: Call): PreparedAction {
    const { catalogue, names } = this.#options;
    const field = names.action;
    if (typeof call.action !== 'string' || call.action === '')
      throw invalidRequest({ field, message: `${field} must be the name of an action` });
    const action = catalogue.find(call.action);
    if (action !== undefined) return action;
    // The text of OpenAperture's FleetManager, with both spaces; its callers match this text.
    const message = `The following FleetManager action is not supported:  ${call.action.slice(0, 100)}`;
    const actions = catalogue.describe().map(({ name }) => name);
    throw new ActionError('unknown_action', message, { details: { fields: [{ field, message }], actions } });
  }

  /**
   * How long the caller waits, and how much of that is left, in milliseconds.
   * @throws ActionError `invalid_request`
   */
  timeOf({ timeoutMs, waitedMs }: Call): { callerMs: number; leftMs: number } {
    const callerMs = callerTimeout(timeoutMs);
    if (callerMs !== undefined) return { callerMs, leftMs: callerMs - waitedMs };
    const field = this.#options.names.timeout;
    throw invalidRequest({ field, message: `${field} must be a number of milliseconds, at least 1` });
  }

  #clusterOf(call: Call, { description: { name, target } }: PreparedAction): Cluster | undefined {
    const given = call.target ?? undefined;
    const field = this.#options.names.target;
    if (given === undefined) {
      if (target !== 'cluster') return undefined;
      throw invalidRequest({ field, message: `${field} is missing: ${name} runs against a cluster` });
    }
    if (target === 'none')
      throw invalidRequest({ field, message: `${field} must be left out: ${name} uses no cluster` });
    if (typeof given !== 'string' || !CLUSTER_TOKEN.test(given))
      throw invalidRequest({ field, message: `${field} must be 1 to 128 of the characters A-Z a-z 0-9 _ -` });
    const { onResponse, clusterName, clusterToken } = this.#options;
    const token = clusterToken?.(given) ?? given;
    return new Cluster(token, onResponse, clusterName?.(token));
  }

  #requireReachable({ key }: Cluster): void {
    const pauseMs = this.#options.breaker.pauseLeft(key);
    if (pauseMs > 0) throw unreachable(pauseMs);
  }
}

/** The error of a call whose time is up. */
export function timedOut(timeoutMs: number): ActionError {
  // The text of OpenAperture's FleetManager, also for calls that have not begun; its callers match this text.
  return new ActionError('timeout', `Request has timed out during execution! (after ${timeoutMs} ms)`);
}

/** The error of a call for a cluster that is not tried at the moment. */
export function unreachable(pauseMs: number): ActionError {
  return new ActionError(
    'cluster_unreachable',
    `This cluster could not be reached several times in a row; the next attempt is possible in ${Math.ceil(pauseMs / 1_000)} s`,
    { details: { retry_after_ms: pauseMs } },
  );
}

/** The error of a call whose lane has no more room. */
export function busy(lane: string): ActionError {
  const which = lane === NO_CLUSTER ? 'without a cluster' : 'for this cluster';
  return new ActionError(
    'cluster_busy',
    `Too many requests ${which} are waiting; try again in a few seconds`,
    { details: { retry_after_ms: BUSY_MS } },
  );
}
