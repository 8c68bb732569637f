import { fieldsOf } from '../lib/fields-of.js';
import { reasonOf } from '../lib/errors.js';

/** A permission of RabbitMQ (its "Access Control" guide); the broker does not always say which one it misses. */
type Permission = 'configure' | 'write' | 'read' | 'configure or read';

/** The broker has closed a channel, or refused a login, and said why. */
export interface BrokerRefusal {
  /** The reply code of AMQP 0-9-1: 403, 404, 406, ... */
  code: number;
  /** The broker's own text, such as `NOT_FOUND - no exchange 'x' in vhost '/'`. */
  text: string;
  /** The permission that the user lacks; undefined when it was refused for another reason. */
  permission: Permission | undefined;
}

/** The AMQP methods that need a permission, as `class.method`, with the permission on a queue and on an exchange. */
const PERMISSIONS: ReadonlyMap<string, Readonly<{ queue: Permission; exchange: Permission }>> = new Map([
  // With a dead-letter exchange it also needs read on the queue, and write on that exchange.
  ['50.10', { queue: 'configure or read', exchange: 'write' }],
  ['50.20', { queue: 'write', exchange: 'read' }],
  ['50.40', { queue: 'configure', exchange: 'write' }],
  ['60.20', { queue: 'read', exchange: 'read' }],
  ['60.70', { queue: 'read', exchange: 'read' }],
  ['60.40', { queue: 'write', exchange: 'write' }],
]);

/** RabbitMQ closes the connection over a quorum queue (541) while its feature flag is off. */
const ENABLE_FLAG =
  'enable it with `rabbitmqctl enable_feature_flag quorum_queue`, or set QUEUE_TYPE to classic';

/** What the broker said when it closed a channel; undefined for any other error. Looks at the causes of an error too. */
export function refusalOf(error: unknown): BrokerRefusal | undefined {
  for (let each = error; each instanceof Error; each = each.cause) {
    const { code, classId, methodId } = fieldsOf(each);
    if (typeof code !== 'number') continue;
    // amqplib puts its own words around the text.
    const text = / with message "(.*?)"?$/s.exec(each.message)?.[1] ?? each.message;
    return { code, text, permission: permissionOf(code, text, `${String(classId)}.${String(methodId)}`) };
  }
  return undefined;
}

/** Why an operation on a broker failed, in one sentence: the broker's own text where it said something. */
export function brokerReason(error: unknown): string {
  const refusal = refusalOf(error);
  if (refusal === undefined) return reasonOf(error);
  const { code, text, permission } = refusal;
  if (code === 541 && text.includes('feature flag')) return `${text} (${ENABLE_FLAG})`;
  return permission === undefined ? text : `${text} (it lacks the ${permission} permission)`;
}

function permissionOf(code: number, text: string, method: string): Permission | undefined {
  const kind = /\baccess to (queue|exchange) /.exec(text)?.[1];
  if (code !== 403 || (kind !== 'queue' && kind !== 'exchange')) return undefined;
  return PERMISSIONS.get(method)?.[kind];
}
