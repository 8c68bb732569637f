import { Cluster, CLUSTER_TOKEN } from '../api/cluster.js';
import { type JsonSchema, schemaOfField, schemaOfItem } from '../core/json-schema.js';
import { fieldsOf } from '../lib/fields-of.js';
import { namesSecret } from '../lib/names-secret.js';

/** RabbitMQ's own, in `x-death`: the names of queues. */
const ROUTING_KEYS = 'routing-keys';
const TOKEN_KEY = 'etcd_token';
const HIDDEN = '***';
/** A shorter token is not looked for in other texts: it may be a part of any word. */
const MIN_FOUND = 8;

/** The cluster of an etcd token, as the log names it; undefined when it is not one. */
export function clusterHashOf(token: unknown): string | undefined {
  return typeof token === 'string' && CLUSTER_TOKEN.test(token) ? new Cluster(token).hash : undefined;
}

/**
 * Plain data without its secrets: what has the key of a secret, and the etcd token of the request wherever a text repeats it. A token is
 * replaced by the hash of its cluster.
 * @param token the etcd token of the request, if it has one
 */
export function withoutSecrets(value: unknown, token: unknown): unknown {
  if (typeof value === 'string')
    return typeof token === 'string' && token.length >= MIN_FOUND
      ? value.replaceAll(token, () => hiddenOf(token))
      : value;
  if (Array.isArray(value)) return value.map((each) => withoutSecrets(each, token));
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(
    Object.entries(value).map(([key, each]) => {
      const isSecret =
        key !== ROUTING_KEYS && namesSecret(key) && each !== null && each !== undefined && each !== '';
      const name = String(withoutSecrets(key, token));
      return [name, isSecret ? hiddenOf(each, key) : withoutSecrets(each, token)];
    }),
  );
}

/**
 * A decoded message without the parameters that their action marks as secrets.
 * @param schema of the parameters; undefined: the action is not known
 */
export function withoutMarked(message: unknown, schema: JsonSchema | undefined): unknown {
  const body = fieldsOf(message).request_body;
  const parameters = fieldsOf(body).action_parameters;
  if (schema === undefined || parameters === undefined) return message;
  const hidden = hiddenByMarks(parameters, schema);
  return { ...fieldsOf(message), request_body: { ...fieldsOf(body), action_parameters: hidden } };
}

function hiddenByMarks(value: unknown, schema: JsonSchema | undefined): unknown {
  if (value === null || value === undefined || schema === undefined) return value;
  if (schema.writeOnly === true) return HIDDEN;
  if (Array.isArray(value))
    return value.map((each: unknown, index) => hiddenByMarks(each, schemaOfItem(schema, index)));
  if (typeof value !== 'object' || ArrayBuffer.isView(value)) return value;
  return Object.fromEntries(
    Object.entries(value).map(([key, each]) => [key, hiddenByMarks(each, schemaOfField(schema, key))]),
  );
}

/** Only a token is told by its hash: a password can be guessed from one. */
function hiddenOf(value: unknown, key = TOKEN_KEY): string {
  const hash = key === TOKEN_KEY ? clusterHashOf(value) : undefined;
  return hash === undefined ? HIDDEN : `*** (cluster ${hash})`;
}

/** The etcd token in a decoded message. */
export function tokenIn(message: unknown): unknown {
  return fieldsOf(fieldsOf(message).request_body).etcd_token;
}
