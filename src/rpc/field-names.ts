import type { FieldNames } from '../core/call.js';

/** The names of a request's fields in a message. */
export const FIELD_NAMES: FieldNames = {
  action: 'request_body.action',
  target: 'request_body.etcd_token',
  parameters: 'action_parameters',
  timeout: 'timeout-ms',
};
