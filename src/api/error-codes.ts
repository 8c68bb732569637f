/** Who can fix the failure: the `caller` must correct the request, or the `service` or the cluster failed. */
export type Fault = 'caller' | 'service';

export interface ErrorCodeInfo {
  fault: Fault;
  /** True when the same request may succeed if it is sent again later. */
  retryable: boolean;
  summary: string;
}

/**
 * Every error code of this service. Codes are stable: callers match codes, not messages.
 * A test checks docs/errors.md against this table.
 */
export const ERROR_CODES = {
  invalid_request: caller('The request is malformed; `details` names the fields.'),
  invalid_parameters: caller('The action does not accept these parameters; `details` names the fields.'),
  request_too_large: caller('The request is larger than the service or the broker accepts.'),
  unknown_action: caller('This service has no such action.'),
  cluster_not_found: caller('The discovery service has no cluster with this token.'),
  cluster_entry_invalid: service(
    'The entry of the cluster in `CLUSTERS_FILE` cannot be used; the log and `doctor` say why.',
  ),
  unsupported_by_cluster: caller('A cluster of this kind cannot do this; nothing was changed.'),
  cluster_empty: caller('The token exists, but no machine has registered with it.'),
  unit_not_found: caller('The cluster has no such unit.'),
  unit_not_scheduled: caller('The unit runs on no machine, or not on the requested one.'),
  unit_not_schedulable: caller('No machine meets the requirements of the unit; nothing was changed.'),
  unit_is_global: caller('The action does not support global units.'),
  machine_not_found: caller('The machine is not in the cluster, or no longer.'),
  forbidden: caller('The policy of this service does not allow this connection or this operation.'),
  idempotency_key_reused: caller(
    'The caller has used this idempotency key for another request; nothing was done.',
  ),
  idempotency_key_in_use: caller(
    'An earlier request with this idempotency key still runs; sent again with the same key, the request gets its reply.',
    true,
  ),
  idempotency_unavailable: service(
    'The service has no claim store, without which it keeps no promise for an idempotency key; nothing was done.',
  ),
  cluster_busy: service(
    'Too many requests for this cluster, for one unit of it, or without a cluster are waiting; try again later.',
    true,
  ),
  cluster_unreachable: service(
    'No fleet API of the cluster, or none of its machines, could be reached.',
    true,
  ),
  cluster_incomplete: service(
    'The cluster does not list all of its machines at the moment, and what was asked for may be on one of the others.',
    true,
  ),
  cluster_unhealthy: service("The cluster's fleet API responds, but reports an internal failure.", true),
  cluster_refused: service("The cluster's fleet API refused the request; the message says why."),
  cluster_answer_invalid: service('The fleet API or the discovery service sent an invalid response.'),
  unit_did_not_stop: service('The unit did not stop in time; fleet was asked to launch it again.'),
  unit_stopped: service('The unit is stopped now: fleet could not be asked to start it.'),
  unit_not_started: service('The unit was stopped and launched, and was not seen to be up in time.'),
  unit_changed_meanwhile: service(
    'Somebody else changed the desired state of the unit during the change; it was left as they set it.',
  ),
  unit_failed: service('The unit failed when it was started.'),
  unit_masked: service('The unit is masked on a machine; unmask it to change it.'),
  unit_file_invalid: service('systemd or fleet cannot use the file of the unit; the message says why.'),
  unit_dependency_failed: service('The unit was not started, because a unit that it needs failed.'),
  unit_condition_failed: service(
    'The unit was not started: a condition or an assertion of its file does not hold.',
  ),
  unit_cannot_reload: caller('The unit cannot be reloaded: its file has no `ExecReload`.'),
  unit_not_active: caller('The unit is not active, which this change needs.'),
  unit_not_installable: caller(
    'The unit cannot be enabled or disabled: its file has no section `[Install]`, or is generated.',
  ),
  partly_changed: service(
    'The change was made on some machines and not on others; `details.changes` says which, and why.',
  ),
  nothing_selected: caller('The selection has no target; nothing was changed.'),
  stale_plan: caller('The cluster has changed since the dry run that the plan is of; nothing was changed.'),
  confirmation_needed: caller(
    'So many targets need `confirm_count`, which says how many; nothing was changed.',
  ),
  rollout_stopped: service(
    'A change in batches ended early; `details` says what was done, what failed and what was not tried.',
  ),
  not_permitted: service(
    'The login of the service on a machine has no right to do this; nothing was changed there.',
  ),
  unit_flaps: service('The unit restarts repeatedly and does not keep running.'),
  host_unreachable: service('A machine cannot be reached by SSH.', true),
  host_key_refused: service(
    "A machine's host key is unknown, changed, revoked or of no accepted type; no command was run.",
  ),
  login_refused: service('A machine refused the SSH login of the service.'),
  command_failed: service('A command on a machine failed; `details` has its exit status and error output.'),
  discovery_unreachable: service('The discovery service could not be reached.', true),
  service_unavailable: service(
    'No service accepts requests: no broker, no queue, no memory for more calls of the HTTP gateway, or, for a change, no claim store or no audit.',
    true,
  ),
  timeout: service(
    'The deadline passed: a read was stopped, or a change had not begun and nothing was changed.',
    true,
  ),
  cancelled: service(
    'The request was stopped, usually by a shutdown: a read, or a change that had not begun and changed nothing.',
    true,
  ),
  outcome_unknown: service('A change may or may not have been made; check before trying again.'),
  worker_lost: service(
    'Each process that ran the request ended before it had a result; the log of the service says how. It is not run again.',
  ),
  answer_too_large: service(
    'The reply is larger than this service sends, the broker accepts, the Manager stores or the claim store keeps; request less data.',
  ),
  internal: service('An unexpected failure; the log of the service has the reason under the request id.'),
} as const satisfies Record<string, ErrorCodeInfo>;

function caller(summary: string, retryable = false): ErrorCodeInfo {
  return { fault: 'caller', retryable, summary };
}

function service(summary: string, retryable = false): ErrorCodeInfo {
  return { fault: 'service', retryable, summary };
}

/**
 * What a code means to callers. A code that a plugin defines follows two conventions: `invalid_*` means a bad request,
 * `*_not_found` means that something does not exist. Every other unknown code means a failure of the service.
 */
export function errorCodeInfo(code: string): ErrorCodeInfo {
  const known: Record<string, ErrorCodeInfo> = ERROR_CODES;
  const info = Object.hasOwn(known, code) ? known[code] : undefined;
  if (info !== undefined) return info;
  if (code.startsWith('invalid_')) return caller('The request is not valid.');
  if (code.endsWith('_not_found')) return caller('The request names something that does not exist.');
  return service('The action failed.');
}
