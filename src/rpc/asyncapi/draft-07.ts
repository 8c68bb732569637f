import type { JsonSchema } from '../../core/json-schema.js';
import { fieldsOf } from '../../lib/fields-of.js';

/**
 * A JSON Schema of the catalogue in draft 07, the one that AsyncAPI's own schemas extend. Of what the catalogue uses, only tuples are
 * written in another way there.
 */
export function inDraft07(schema: JsonSchema): JsonSchema {
  const { prefixItems, items, properties, additionalProperties, ...others } = schema;
  return {
    ...others,
    ...(Array.isArray(prefixItems) && { items: prefixItems.map(inner) }),
    ...(items !== undefined && { items: inner(items) }),
    ...(properties !== undefined && {
      properties: Object.fromEntries(
        Object.entries(fieldsOf(properties)).map(([name, each]) => [name, inner(each)]),
      ),
    }),
    ...(additionalProperties !== undefined && { additionalProperties: inner(additionalProperties) }),
  };
}

function inner(schema: unknown): unknown {
  return typeof schema === 'object' && schema !== null ? inDraft07({ ...schema }) : schema;
}
