import { randomBytes, randomUUID } from 'node:crypto';
import type { ConsumeMessage } from 'amqplib';
import type { ExecutionContext } from 'ava';
import { fieldsOf } from '../../src/lib/fields-of.js';
import { ErlangCodec } from '../../src/rpc/codec/erlang.js';
import type { TestBroker } from '../support/brokers.js';
import { refuseSecretsIn } from '../support/planted-secrets.js';
import type { Entry, Outcome, Planned } from './ledger.js';

const erlang = new ErlangCodec();
const ERLANG = erlang.contentType;

/** Sends a request. @returns what its caller got */
export type Send = (entry: Omit<Entry, 'got'>) => Promise<Outcome>;

/** Publishes requests as one user of the broker. @param options.userId undefined: the messages do not say who sends them */
export async function amqpSender(
  t: ExecutionContext,
  { broker, queue, userId }: { broker: TestBroker; queue: string; userId: string | undefined },
): Promise<Send> {
  const connection = await broker.open();
  t.teardown(async () => connection.close());
  const channel = await connection.createChannel();
  const { queue: replyTo } = await channel.assertQueue('', { exclusive: true });
  const waiting = new Map<string, (message: ConsumeMessage) => void>();
  await channel.consume(
    replyTo,
    (message) => {
      if (message === null) return;
      const id = String(message.properties.correlationId);
      const tell = waiting.get(id);
      // A second reply would come to nobody.
      if (tell === undefined) return refuse(`a second reply to ${id}`);
      waiting.delete(id);
      tell(message);
    },
    { noAck: true },
  );
  return async (entry) => {
    const { id, encoding, timeout, trace, wantsReply, body } = entry;
    const reply = new Promise<ConsumeMessage>((resolve) => waiting.set(id, resolve));
    const envelope = { status: 'not_started', request_body: { action: entry.action, ...fieldsIn(entry) } };
    const content =
      encoding === 'erlang' ? erlang.encode(envelope) : Buffer.from(body ?? JSON.stringify(envelope));
    channel.sendToQueue(queue, content, {
      ...(wantsReply && { replyTo }),
      correlationId: id,
      messageId: id,
      contentType: encoding === 'erlang' ? ERLANG : 'application/json',
      ...(userId !== undefined && { userId }),
      headers: {
        ...entry.headers,
        ...(timeout !== undefined && { 'timeout-ms': timeout }),
        ...(trace !== undefined && { traceparent: traceparentOf(trace) }),
      },
    });
    if (!wantsReply) return entry.outcomes.old[0] ?? '';
    const { content: answer, properties } = await reply;
    const isErlang = properties.contentType === ERLANG;
    return outcomeIn(isErlang ? erlang.decode(answer) : JSON.parse(answer.toString()));
  };
}

/** Calls the gateways in turn. @param token undefined: without one */
export function httpSender(urls: readonly string[], token: string | undefined): Send {
  let calls = 0;
  return async (entry) => {
    const { id, action, trace, body } = entry;
    const response = await fetch(`${urls[calls++ % urls.length]}/v1/actions/${String(action)}`, {
      method: 'POST',
      headers: {
        'content-type': 'application/json',
        'x-request-id': id,
        // A message that waits longer than its caller is dropped by the broker.
        'timeout-ms': '300000',
        ...(token !== undefined && { authorization: `Bearer ${token}` }),
        ...(trace !== undefined && { traceparent: traceparentOf(trace) }),
      },
      body: body ?? JSON.stringify(fieldsIn(entry)),
    });
    return outcomeIn(await response.json());
  };
}

/** The span of a caller, in a trace of its own. */
export function newTrace(): { traceId: string; spanId: string } {
  return { traceId: randomUUID().replaceAll('-', ''), spanId: randomBytes(8).toString('hex') };
}

function traceparentOf({ traceId, spanId }: { traceId: string; spanId: string }): string {
  return `00-${traceId}-${spanId}-01`;
}

function fieldsIn({ cluster, parameters }: Planned): Record<string, unknown> {
  return {
    ...(cluster !== undefined && { etcd_token: cluster.sent }),
    ...(parameters !== undefined && { action_parameters: parameters }),
  };
}

function outcomeIn(reply: unknown): Outcome {
  const { status, response_body: body, details } = fieldsOf(reply);
  // The copy of the request has what its caller sent.
  refuseSecretsIn(JSON.stringify([body, details]), 'a reply');
  return status === 'completed' ? status : String(fieldsOf(body).code);
}

/** AVA reports an unhandled rejection as a failure. */
function refuse(what: string): void {
  void Promise.reject(new Error(what));
}
