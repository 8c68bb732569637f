const BRAND = Symbol.for('fleet-manager:ActionError');

/** Where a fault lies: a `caller` can mend the request, a `service` fault is ours or the cluster's. */
export type Fault = 'caller' | 'service';

export interface ErrorCodeInfo {
  fault: Fault;
  /** The HTTP status the gateway answers with. */
  http: number;
  /** True when the same request may succeed a little later. */
  retryable: boolean;
  summary: string;
}

/**
 * Every error code this service answers with. Codes are stable: callers may match on them, never on texts.
 * docs/errors.md is checked against this table by a test.
 */
export const ERROR_CODES = {
  invalid_request: caller(400, 'The request itself is malformed; `details` names the fields.'),
  invalid_parameters: caller(400, 'The action does not take these parameters; `details` names the fields.'),
  unknown_action: caller(404, 'No such action is served here.'),
  cluster_not_found: caller(404, 'Discovery knows no cluster under this token.'),
  cluster_empty: caller(404, 'The token is known, but no machine has registered under it.'),
  unit_not_found: caller(404, 'The cluster has no such unit.'),
  unit_not_scheduled: caller(409, 'The unit is on no machine, or not on the one that was named.'),
  unit_not_schedulable: caller(409, 'No machine meets what the unit asks of one; it was left as it is.'),
  unit_is_global: caller(409, 'The action does not work on global units.'),
  machine_not_found: caller(404, 'The machine is no longer in the cluster.'),
  forbidden: caller(403, 'The policy of this service forbids connecting there, or doing this.'),
  cluster_busy: service(503, 'Too many requests for this cluster are waiting; try again later.', true),
  cluster_unreachable: service(502, 'No fleet API of the cluster could be reached.', true),
  cluster_unhealthy: service(502, "The cluster's fleet API answers, but reports a failure of its own.", true),
  cluster_refused: service(502, "The cluster's fleet API refused the request; the message says why."),
  cluster_answer_invalid: service(502, 'The fleet API or discovery gave an answer that is not usable.'),
  unit_did_not_stop: service(500, 'The unit did not stop in time, and was told to launch again.'),
  unit_stopped: service(500, 'The unit was stopped and could not be told to start again: it is stopped now.'),
  unit_not_started: service(500, 'The unit was stopped and did not come up again in time.'),
  unit_failed: service(500, 'The unit failed when it was started.'),
  unit_flaps: service(500, 'The unit starts again and again, and does not stay up.'),
  host_unreachable: service(502, 'A machine cannot be reached by SSH.', true),
  host_key_refused: service(
    502,
    "A machine's host key is unknown, changed, revoked or of no accepted type; nothing was run there.",
  ),
  login_refused: service(502, 'A machine did not let the service in.'),
  command_failed: service(
    502,
    'A command on a machine failed; `details` has its exit status and error output.',
  ),
  discovery_unreachable: service(502, 'The discovery service could not be reached.', true),
  service_unavailable: service(503, 'No service takes requests: no broker, or no queue.', true),
  timeout: service(504, 'The deadline passed: a read was stopped, a change had not begun.', true),
  cancelled: service(503, 'The work was stopped before it was done, most often by a shutdown.', true),
  outcome_unknown: service(500, 'A change may or may not have been made; look before trying again.'),
  answer_too_large: service(
    500,
    'The answer is larger than this service sends, or than the Manager keeps; ask for less.',
  ),
  internal: service(500, 'An unforeseen fault; the log of the service has the reason under the request id.'),
} as const satisfies Record<string, ErrorCodeInfo>;

function caller(http: number, summary: string): ErrorCodeInfo {
  return { fault: 'caller', http, retryable: false, summary };
}

function service(http: number, summary: string, retryable = false): ErrorCodeInfo {
  return { fault: 'service', http, retryable, summary };
}

/**
 * What a code means to the gateway and to `call`. A code of a plugin's own follows two conventions: `invalid_*` is a
 * bad request, `*_not_found` is a missing thing; every other unknown code is a fault of the service.
 */
export function errorCodeInfo(code: string): ErrorCodeInfo {
  const known: Record<string, ErrorCodeInfo> = ERROR_CODES;
  const info = Object.hasOwn(known, code) ? known[code] : undefined;
  if (info !== undefined) return info;
  if (code.startsWith('invalid_')) return caller(400, 'The request is not valid.');
  if (code.endsWith('_not_found')) return caller(404, 'Something the request names does not exist.');
  return service(500, 'The action failed.');
}

/**
 * A failure that the caller is to see. The message is shown to people, the code is for programs.
 * `snake_case` codes; the ones above, or an action's own.
 */
export class ActionError extends Error {
  override readonly name = 'ActionError';
  readonly code: string;
  /** Machine-readable facts for the caller, plain JSON; never secrets. */
  readonly details?: unknown;

  constructor(code: string, message: string, options: { details?: unknown; cause?: unknown } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    if (!/^[a-z][a-z0-9_]{0,63}$/.test(code))
      throw new TypeError(`an error code is snake_case, not '${code}'`);
    this.code = code;
    if (options.details !== undefined) this.details = options.details;
    Object.defineProperty(this, BRAND, { value: true });
  }

  /** Also true for an ActionError of another copy of this package, such as a plugin's own. */
  static override [Symbol.hasInstance](value: unknown): boolean {
    return typeof value === 'object' && value !== null && BRAND in value;
  }
}
