/** The names by which callers know the parts of a request, for messages about them. */
export const WIRE_NAMES = {
  action: 'request_body.action',
  target: 'request_body.etcd_token',
  parameters: 'action_parameters',
  timeout: 'timeout-ms',
} as const;
