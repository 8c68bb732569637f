/** Who can correct a fault: the `caller` by another request, or the `service` and its operators. */
export type Fault = 'caller' | 'service';

export interface ErrorCodeInfo {
  fault: Fault;
  /** True when the same request may succeed after a short time. */
  retryable: boolean;
  summary: string;
}

/**
 * Every error code this service answers with. Codes are stable: callers may match on them, never on texts.
 * A test checks docs/errors.md against this table.
 */
export const ERROR_CODES = {
  invalid_request: caller('The request itself is malformed; `details` names the fields.'),
  invalid_parameters: caller('The action does not take these parameters; `details` names the fields.'),
  unknown_action: caller('No such action is served here.'),
  cluster_not_found: caller('Discovery knows no cluster under this token.'),
  cluster_empty: caller('The token is known, but no machine has registered under it.'),
  unit_not_found: caller('The cluster has no such unit.'),
  unit_not_scheduled: caller('The unit is on no machine, or not on the one that was named.'),
  unit_not_schedulable: caller('No machine meets the requirements of the unit; the unit was not changed.'),
  unit_is_global: caller('The action does not work on global units.'),
  machine_not_found: caller('The machine is no longer in the cluster.'),
  forbidden: caller('The policy of this service forbids connecting there, or doing this.'),
  cluster_busy: service('Too many requests for this cluster are waiting; try again later.', true),
  cluster_unreachable: service('No fleet API of the cluster could be reached.', true),
  cluster_unhealthy: service("The cluster's fleet API answers, but reports a failure of its own.", true),
  cluster_refused: service("The cluster's fleet API refused the request; the message says why."),
  cluster_answer_invalid: service('The fleet API or discovery gave an answer that is not usable.'),
  unit_did_not_stop: service('The unit did not stop in time; fleet was asked to launch it again.'),
  unit_stopped: service(
    'The unit was stopped, and fleet could not be asked to start it again: it is stopped now.',
  ),
  unit_not_started: service('The unit was stopped and did not come up again in time.'),
  unit_failed: service('The unit failed when it was started.'),
  unit_flaps: service('The unit starts again and again, and does not stay active.'),
  host_unreachable: service('A machine cannot be reached by SSH.', true),
  host_key_refused: service(
    "A machine's host key is unknown, changed, revoked or of no accepted type; nothing was run there.",
  ),
  login_refused: service('A machine refused the login of the service.'),
  command_failed: service('A command on a machine failed; `details` has its exit status and error output.'),
  discovery_unreachable: service('The discovery service could not be reached.', true),
  service_unavailable: service('No service accepts requests: there is no broker, or no queue.', true),
  timeout: service('The deadline passed: a read was stopped, a change had not begun.', true),
  cancelled: service('The work was stopped before it was done, most often by a shutdown.', true),
  outcome_unknown: service('A change may or may not have been made; look before trying again.'),
  answer_too_large: service(
    'The answer is larger than this service sends, or than the Manager keeps; ask for less.',
  ),
  internal: service('An unexpected fault; the log of the service has the reason under the request id.'),
} as const satisfies Record<string, ErrorCodeInfo>;

function caller(summary: string): ErrorCodeInfo {
  return { fault: 'caller', retryable: false, summary };
}

function service(summary: string, retryable = false): ErrorCodeInfo {
  return { fault: 'service', retryable, summary };
}

/**
 * What a code means to callers. A plugin's own codes follow two conventions: `invalid_*` is a
 * bad request, `*_not_found` is a missing thing; every other unknown code is a fault of the service.
 */
export function errorCodeInfo(code: string): ErrorCodeInfo {
  const known: Record<string, ErrorCodeInfo> = ERROR_CODES;
  const info = Object.hasOwn(known, code) ? known[code] : undefined;
  if (info !== undefined) return info;
  if (code.startsWith('invalid_')) return caller('The request is not valid.');
  if (code.endsWith('_not_found')) return caller('Something the request names does not exist.');
  return service('The action failed.');
}
