import type { ActionDescription } from '../../core/action-description.js';
import { REPLY_DETAILS_SCHEMA } from '../../core/reply-schema.js';
import { packageVersion } from '../../lib/package-version.js';
import { errorQueueOf } from '../queues.js';
import { inDraft07 } from './draft-07.js';
import {
  DEAD_MESSAGE,
  ERROR_MESSAGE,
  HEADER_SCHEMAS,
  MESSAGE_TRAITS,
  messageNames,
  type Part,
  reference,
  replyMessage,
  requestMessage,
} from './messages.js';

// AsyncAPI 3.0: https://www.asyncapi.com/docs/reference/specification/v3.0.0
// Its AMQP bindings: https://github.com/asyncapi/bindings/tree/master/amqp

export interface AsyncApiOptions {
  actions: readonly ActionDescription[];
  /** The name of the queue. */
  queue: string;
}

/** Describes the queue of a service that serves these actions, as an AsyncAPI document. */
export function asyncApiDocument({ actions, queue }: AsyncApiOptions): Part {
  return {
    asyncapi: '3.0.0',
    info: {
      title: 'fleet-manager',
      version: packageVersion(),
      description:
        'Runs actions against CoreOS fleet clusters. A request is a message in a queue of RabbitMQ; its reply goes to the queue ' +
        'that its property `reply_to` names. AMQP has properties besides headers: `x-amqp-properties` describes those of a message.',
      license: { name: 'Apache-2.0' },
    },
    defaultContentType: 'application/json',
    servers: {
      broker: {
        host: '{host}',
        protocol: 'amqp',
        protocolVersion: '0.9.1',
        description: 'The broker of AMQP_URL.',
        variables: { host: { default: 'localhost:5672' } },
      },
    },
    channels: {
      requests: {
        address: queue,
        description: 'The queue that requests are taken from, through the default exchange.',
        messages: Object.fromEntries(
          actions.map((action) => {
            const { request } = messageNames(action);
            return [request, reference('components/messages', request)];
          }),
        ),
        bindings: durableQueue(queue),
      },
      replies: {
        address: null,
        description: 'The queue that the property `reply_to` of a request names.',
        messages: {
          ...Object.fromEntries(
            actions.map((action) => {
              const { reply } = messageNames(action);
              return [reply, reference('components/messages', reply)];
            }),
          ),
          ErrorReply: reference('components/messages', 'ErrorReply'),
        },
      },
      errors: {
        address: errorQueueOf(queue),
        description:
          'What cannot be read or was given up. Nothing reads this queue but `fleet-manager errors`.',
        messages: { DeadLetter: reference('components/messages', 'DeadLetter') },
        bindings: durableQueue(errorQueueOf(queue)),
      },
    },
    operations: {
      ...Object.fromEntries(actions.map((action) => [action.name, operationOf(action)])),
      deadLetter: {
        action: 'send',
        channel: reference('channels', 'errors'),
        summary: 'Gives a message up.',
        messages: [reference('channels/errors/messages', 'DeadLetter')],
      },
    },
    components: {
      schemas: {
        ...Object.fromEntries(
          actions.flatMap(({ name, parameters, result }) => [
            [`${name}_parameters`, inDraft07(parameters)],
            [`${name}_result`, inDraft07(result)],
          ]),
        ),
        ...HEADER_SCHEMAS,
        ReplyDetails: REPLY_DETAILS_SCHEMA,
      },
      messages: {
        ...Object.fromEntries(
          actions.flatMap((action) => {
            const { request, reply } = messageNames(action);
            return [
              [request, requestMessage(action)],
              [reply, replyMessage(action)],
            ];
          }),
        ),
        ErrorReply: ERROR_MESSAGE,
        DeadLetter: DEAD_MESSAGE,
      },
      messageTraits: MESSAGE_TRAITS,
    },
  };
}

function operationOf(action: ActionDescription): Part {
  const { request, reply } = messageNames(action);
  return {
    action: 'receive',
    channel: reference('channels', 'requests'),
    summary: action.summary,
    tags: [{ name: action.effect }],
    messages: [reference('channels/requests/messages', request)],
    bindings: { amqp: { ack: true, bindingVersion: '0.3.0' } },
    reply: {
      address: {
        description: 'The AMQP property `reply_to`; without it no reply is sent.',
        location: '$message.header#/reply_to',
      },
      channel: reference('channels', 'replies'),
      messages: [
        reference('channels/replies/messages', reply),
        reference('channels/replies/messages', 'ErrorReply'),
      ],
    },
  };
}

function durableQueue(name: string): Part {
  return {
    amqp: {
      is: 'queue',
      queue: { name, durable: true, exclusive: false, autoDelete: false, vhost: '/' },
      bindingVersion: '0.3.0',
    },
  };
}
