import type { FieldNames } from '../core/call.js';

/** What the fields of a request are called in a message. */
export const WIRE_NAMES: FieldNames = {
  action: 'request_body.action',
  target: 'request_body.etcd_token',
  parameters: 'action_parameters',
  timeout: 'timeout-ms',
};
