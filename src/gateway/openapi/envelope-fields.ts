import type { JsonSchema } from '../../core/json-schema.js';

/** The other fields of OpenAperture's envelope; the response to a call that did not reach the queue lacks them. */
export const ENVELOPE_FIELDS: Readonly<Record<string, JsonSchema>> = {
  request_body: { type: 'object', description: 'The request as it was read.' },
  queue_name: { type: 'string' },
  id: { description: 'Here always null.' },
};
