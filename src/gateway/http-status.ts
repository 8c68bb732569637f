import type { ERROR_CODES } from '../api/error-codes.js';

/** The HTTP status for each error code. A test checks docs/errors.md against this table. */
export const HTTP_STATUSES: Readonly<Record<keyof typeof ERROR_CODES, number>> = {
  invalid_request: 400,
  invalid_parameters: 400,
  request_too_large: 413,
  unknown_action: 404,
  cluster_not_found: 404,
  cluster_entry_invalid: 500,
  unsupported_by_cluster: 422,
  cluster_empty: 404,
  unit_not_found: 404,
  unit_not_scheduled: 409,
  unit_not_schedulable: 409,
  unit_is_global: 409,
  machine_not_found: 404,
  forbidden: 403,
  idempotency_key_reused: 422,
  idempotency_key_in_use: 409,
  idempotency_unavailable: 501,
  cluster_busy: 503,
  cluster_unreachable: 502,
  cluster_incomplete: 503,
  cluster_unhealthy: 502,
  cluster_refused: 502,
  cluster_answer_invalid: 502,
  unit_did_not_stop: 500,
  unit_stopped: 500,
  unit_not_started: 500,
  unit_changed_meanwhile: 500,
  unit_failed: 500,
  unit_masked: 409,
  unit_file_invalid: 500,
  unit_dependency_failed: 500,
  unit_condition_failed: 500,
  unit_cannot_reload: 409,
  unit_not_active: 409,
  unit_not_installable: 409,
  partly_changed: 500,
  nothing_selected: 422,
  stale_plan: 409,
  confirmation_needed: 409,
  rollout_stopped: 500,
  not_permitted: 502,
  unit_flaps: 500,
  host_unreachable: 502,
  host_key_refused: 502,
  login_refused: 502,
  command_failed: 502,
  discovery_unreachable: 502,
  service_unavailable: 503,
  timeout: 504,
  cancelled: 503,
  outcome_unknown: 500,
  worker_lost: 500,
  answer_too_large: 500,
  internal: 500,
};

/**
 * The HTTP status of an error code. For an action's own code: `invalid_*` is 400, `*_not_found` is 404, every other is
 * 500. `errorCodeInfo` assigns the fault with the same patterns.
 */
export function httpStatusOf(code: string): number {
  const known: Readonly<Record<string, number>> = HTTP_STATUSES;
  const status = Object.hasOwn(known, code) ? known[code] : undefined;
  if (status !== undefined) return status;
  if (code.startsWith('invalid_')) return 400;
  if (code.endsWith('_not_found')) return 404;
  return 500;
}
