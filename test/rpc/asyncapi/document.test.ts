import { randomUUID } from 'node:crypto';
import type { ConsumeMessage, GetMessage, Options } from 'amqplib';
import test from 'ava';
import fc from 'fast-check';
import { number, object, string, tuple } from 'yup';
import { describeActions } from '../../../src/composition.js';
import type { ActionDescription } from '../../../src/core/action-description.js';
import { prepareAction } from '../../../src/core/prepare-action.js';
import { fieldsOf } from '../../../src/lib/fields-of.js';
import { type Action, ActionError, defineAction } from '../../../src/plugin.js';
import { asyncApiDocument } from '../../../src/rpc/asyncapi/document.js';
import { ErlangCodec } from '../../../src/rpc/codec/erlang.js';
import { jsonRequestCodec } from '../../../src/rpc/codec/json.js';
import { readConfiguration } from '../../../src/settings/read-configuration.js';
import { objectSchemaOf, schemaOf, shape, shapeAndValue } from '../../core/any-schema.js';
import { DESCRIPTION } from '../../support/action-description.js';
import { brokers } from '../../support/brokers.js';
import { RawCaller, serveRequests } from '../../support/requests.js';
import { documentProblems, mismatch, resolved } from './document-problems.js';

const described = (description: string) => ({ description });

function descriptionOf(action: Action): ActionDescription {
  return prepareAction(action, () => undefined, { parametersName: 'action_parameters' }).description;
}

test('the document of the actions of the service is valid', async (t) => {
  const actions = (
    await describeActions(readConfiguration({ env: {}, directory: '/nonexistent' }))
  ).describe();
  t.deepEqual(documentProblems(asyncApiDocument({ actions, queue: 'fleet_manager' })), []);
});

test('a document that is not valid is found out', (t) => {
  const document = JSON.parse(JSON.stringify(asyncApiDocument({ actions: [DESCRIPTION], queue: 'q' })));
  const { channels, components, operations, ...rest } = document;
  for (const broken of [
    { ...document, asyncapi: '9' },
    { ...document, channels: { ...channels, requests: { address: 7 } } },
    {
      ...document,
      operations: { ...operations, look: { action: 'ask', channel: { $ref: '#/channels/requests' } } },
    },
    { ...rest, channels, operations, components: { ...components, messages: {} } },
    {
      ...document,
      components: { ...components, schemas: { ...components.schemas, look_result: { type: 'text' } } },
    },
    {
      ...document,
      components: { ...components, schemas: { ...components.schemas, look_result: { prefixItems: [] } } },
    },
  ])
    t.not(documentProblems(broken).length, 0, JSON.stringify(broken).slice(0, 300));
});

test('the document is valid whatever schemas the actions declare', (t) => {
  const shapes = fc.array(fc.tuple(shapeAndValue, shape), { minLength: 20, maxLength: 20 });
  const property = fc.property(shapes, (declared) => {
    const actions = declared.map(([[parameters], result], index) =>
      descriptionOf(
        defineAction({
          name: `wild_${index}`,
          summary: 'Any.',
          target: 'optional',
          effect: 'change',
          parameters: objectSchemaOf(parameters),
          result: schemaOf(result),
          handle: async () => {
            throw new Error('it is only described');
          },
        }),
      ),
    );
    t.deepEqual(documentProblems(asyncApiDocument({ actions, queue: 'q' })), []);
  });
  fc.assert(property, { numRuns: 10 });
});

/** Returns a pair of what it gets; without a text it fails. */
const pair = defineAction({
  name: 'pair',
  summary: 'Pairs a text with its length.',
  target: 'optional',
  effect: 'read',
  parameters: object({ text: string().required().meta(described('Any text.')) }),
  result: tuple([string().defined(), number().defined()]).required(),
  handle: async ({ parameters: { text }, warn }) => {
    if (text === 'bad') throw new ActionError('text_bad', 'this text is bad', { details: { text } });
    if (text === 'short') warn('the text is short');
    return [text, text.length] as [string, number];
  },
});

/** The properties of a message by their names in AMQP. */
function amqpProperties({ properties }: ConsumeMessage | GetMessage): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(properties)
      .filter(([, value]) => value !== undefined)
      .map(([name, value]) => [name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`), value]),
  );
}

for (const broker of brokers()) {
  test(`${broker.name}: a request as the document describes it gets a reply as the document describes it, in each encoding`, async (t) => {
    const erlang = new ErlangCodec();
    const { queue } = await serveRequests(t, broker, [pair], { codecs: [jsonRequestCodec, erlang] });
    const document = JSON.parse(JSON.stringify(asyncApiDocument({ actions: [descriptionOf(pair)], queue })));
    const part = (reference: { $ref: string }) => fieldsOf(resolved(document, reference.$ref));
    const message = (reference: { $ref: string }) => {
      const found = part(part(reference) as { $ref: string });
      const [trait] = (found.traits ?? []) as { $ref: string }[];
      return { ...(trait && part(trait)), ...found };
    };
    const operation = document.operations.pair;
    const request = message(operation.messages[0]);
    const [completed, failed] = operation.reply.messages.map(message);
    const caller = await RawCaller.open(t, broker, String(part(operation.channel).address));
    const options: Options.Publish = {
      messageId: randomUUID(),
      deliveryMode: 2,
      headers: {
        'timeout-ms': 60_000,
        'x-request-id': 'by-the-document',
        traceparent: '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01',
      },
    };
    t.is(mismatch(document, request.headers, options.headers), '');
    t.deepEqual(request['x-content-types'], [request.contentType, erlang.contentType]);
    for (const codec of [jsonRequestCodec, erlang])
      for (const [body, expected] of [
        [{ action_parameters: { text: 'long enough' } }, completed],
        [{ etcd_token: 'a-cluster', action_parameters: { text: 'short' } }, completed],
        [{ action_parameters: { text: 'bad' } }, failed],
      ] as const) {
        const payload = { status: 'not_started', request_body: { action: 'pair', ...body } };
        t.is(mismatch(document, request.payload, payload), '');
        const id = caller.sendRaw(codec.encode(payload), {
          ...options,
          messageId: randomUUID(),
          contentType: codec.contentType,
        });
        const reply = await caller.replyMessage(id);
        const decoded = codec.decode(reply.content);
        t.is(mismatch(document, expected.payload, decoded), '', JSON.stringify(decoded));
        t.not(mismatch(document, (expected === failed ? completed : failed).payload, decoded), '');
        const properties = amqpProperties(reply);
        t.is(mismatch(document, expected['x-amqp-properties'], properties), '');
        t.is(properties.content_type, codec.contentType);
        t.is(properties.type, expected.bindings.amqp.messageType);
        t.is(fieldsOf(properties).delivery_mode ?? 2, 2);
      }
    // What the document does not allow is refused as it says.
    for (const wrong of [{ action: 'pair' }, { action: 'pair', action_parameters: { text: 'x', more: 1 } }]) {
      const payload = { request_body: wrong };
      t.not(mismatch(document, request.payload, payload), '');
      const { answer } = await caller.ask(wrong);
      t.is(mismatch(document, failed.payload, answer), '');
    }
    const dead = message(document.operations.deadLetter.messages[0]);
    caller.publish('no request');
    const { properties } = await caller.take('error queue');
    t.is(mismatch(document, dead.headers, properties.headers), '');
    t.is(document.channels.errors.address, `${queue}_error`);
  });
}
