import { ActionError } from '../api/action-error.js';
import { Cluster, CLUSTER_TOKEN } from '../api/cluster.js';
import type { Call, FieldNames } from './call.js';
import type { Catalogue } from './catalogue.js';
import { MAX_TIMEOUT_MS, type PreparedAction } from './prepare-action.js';
import { invalidRequest } from './call-errors.js';

export interface AdmissionOptions {
  catalogue: Catalogue;
  names: FieldNames;
  /** The maximum number of calls in the service, waiting and running. */
  maxCalls: number;
  /** The number of calls of a cluster that wait or run, by the cluster's hash. */
  callsOf: (cluster: string) => number;
}

/** A call that has been checked. */
export interface Admitted {
  readonly action: PreparedAction;
  readonly cluster: Cluster | undefined;
  /** With defaults filled in. */
  readonly parameters: unknown;
  /** How long the call may take from its arrival, in milliseconds. */
  readonly timeoutMs: number;
}

/** One cluster may use this share of `maxCalls`; the rest stays free for other clusters. */
const SHARE_OF_ONE_CLUSTER = 0.75;

/** Decides whether a call may run: action, target, deadline, parameters, and room for its cluster. */
export class Admission {
  readonly #options: AdmissionOptions;

  constructor(options: AdmissionOptions) {
    this.#options = options;
  }

  /** @throws ActionError with the reason why the call is refused */
  admit(call: Call): Admitted {
    const action = this.#actionOf(call);
    const { name, effect, redelivery, timeout_ms: longest } = action.description;
    if (!call.wantsReply && effect === 'read')
      throw new ActionError(
        'invalid_request',
        `The request asks for no reply, and ${name} changes nothing: it is not run`,
      );
    if (call.malformed !== undefined) throw invalidRequest(call.malformed);
    const timeoutMs = Math.min(this.#timeoutOf(call) ?? MAX_TIMEOUT_MS, longest);
    const cluster = this.#clusterOf(call, action);
    const parameters = action.check(call.parameters);
    if (call.delivery === 'repeated' && redelivery === 'refuse') {
      throw new ActionError(
        'outcome_unknown',
        `This request was delivered before, and a worker may have begun it: ${name} may or may not have been done, and is not run again`,
      );
    }
    if (cluster !== undefined) this.#refuseBusy(cluster);
    return { action, cluster, parameters, timeoutMs };
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

  #timeoutOf({ timeoutMs: sent }: Call): number | undefined {
    if (sent === undefined || sent === null) return undefined;
    const value = typeof sent === 'string' && /^\d{1,15}$/.test(sent) ? Number(sent) : sent;
    if (typeof value === 'number' && Number.isFinite(value) && value >= 1) return value;
    const field = this.#options.names.timeout;
    throw invalidRequest({ field, message: `${field} must be a number of milliseconds, at least 1` });
  }

  #clusterOf(call: Call, { description: { name, target } }: PreparedAction): Cluster | undefined {
    const token = call.target ?? undefined;
    const field = this.#options.names.target;
    if (token === undefined) {
      if (target !== 'cluster') return undefined;
      throw invalidRequest({ field, message: `${field} is missing: ${name} runs against a cluster` });
    }
    if (target === 'none')
      throw invalidRequest({ field, message: `${field} must be left out: ${name} uses no cluster` });
    if (typeof token !== 'string' || !CLUSTER_TOKEN.test(token))
      throw invalidRequest({ field, message: `${field} must be 1 to 128 of the characters A-Z a-z 0-9 _ -` });
    return new Cluster(token);
  }

  #refuseBusy({ hash }: Cluster): void {
    const { callsOf, maxCalls } = this.#options;
    if (callsOf(hash) < maxCalls * SHARE_OF_ONE_CLUSTER) return;
    throw new ActionError(
      'cluster_busy',
      'Too many requests for this cluster are waiting; try again in a few seconds',
    );
  }
}
