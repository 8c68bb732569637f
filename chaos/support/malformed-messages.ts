import { deflateSync } from 'node:zlib';
import type { Options } from 'amqplib';

/** A message that is no request. */
export interface Malformed {
  content: Buffer;
  properties?: Options.Publish;
}

export interface Kind {
  name: string;
  /** @param queue the queue that it is sent to */
  make(queue: string): Malformed;
}

/** The largest message that the worker of these messages accepts, in bytes. */
export const MAX_MESSAGE_BYTES = 64 * 1024;

const BODY = { action: 'chaos_read', action_parameters: {} };
const ERLANG = { contentType: 'application/x-erlang-binary' };

const text = (name: string, content: string): Kind => ({
  name,
  make: () => ({ content: Buffer.from(content) }),
});
const json = (name: string, value: unknown): Kind => text(name, JSON.stringify(value));
const withEnvelope = (name: string, fields: Record<string, unknown>): Kind =>
  json(name, { request_body: BODY, ...fields });
/** A term in Erlang's external format; 131 is its version. */
const term = (name: string, ...bytes: (number | Buffer)[]): Kind => ({
  name,
  make: () => ({
    content: Buffer.concat([131, ...bytes].map((each) => (Buffer.isBuffer(each) ? each : Buffer.of(each)))),
    properties: ERLANG,
  }),
});
/** A compressed term; `size` is the size that it claims to have when it is inflated. */
const compressed = (name: string, size: number, plain: Buffer): Kind => {
  const claimed = Buffer.alloc(4);
  claimed.writeUInt32BE(size);
  return term(name, 80, claimed, deflateSync(plain));
};
const replyingTo = (name: string, replyTo: (queue: string) => string): Kind => ({
  name,
  make: (queue) => ({
    content: Buffer.from(JSON.stringify({ request_body: BODY })),
    properties: { replyTo: replyTo(queue) },
  }),
});

/** Messages that are dead-lettered, one of each kind. */
export const MALFORMED: readonly Kind[] = [
  text('empty', ''),
  text('no JSON', 'restart everything'),
  text('cut off', '{"request_body": {"action": "chaos_re'),
  text('more than one value', `${JSON.stringify({ request_body: BODY })} {}`),
  text('single quotes', `{'request_body': {'action': 'chaos_read'}}`),
  text('a comment', `/* now */ ${JSON.stringify({ request_body: BODY })}`),
  text('not a number', '{"request_body": {"action": "chaos_read", "action_parameters": {"bytes": NaN}}}'),
  text('a line break in a string', '{"request_body": {"action": "chaos\nread"}}'),
  text('a number of 200 digits', `{"request_body": {"action_parameters": {"bytes": ${'9'.repeat(200)}}}}`),
  text('too many levels', `{"request_body": {"action": ${'['.repeat(200)}${']'.repeat(200)}}}`),
  text('null bytes', '\0\0\0\0'),
  text('an unfinished escape', '{"request_body": {"action": "\\u12"}}'),
  json('a list', [{ request_body: BODY }]),
  json('a string', 'chaos_read'),
  json('a number', 13),
  json('null', null),
  json('true', true),
  json('without a body', { status: 'not_started' }),
  withEnvelope('a body that is null', { request_body: null }),
  withEnvelope('a body that is a string', { request_body: JSON.stringify(BODY) }),
  withEnvelope('a body that is a list', { request_body: [BODY] }),
  withEnvelope('a body that is a number', { request_body: 7 }),
  withEnvelope('a completed reply', { status: 'completed', response_body: {} }),
  withEnvelope('an error reply', { status: 'error', response_body: { errors: ['no'] } }),
  withEnvelope('an unknown status', { status: 'perhaps' }),
  withEnvelope('a status that is a number', { status: 1 }),
  withEnvelope('a negative id', { id: -1 }),
  withEnvelope('an id with a fraction', { id: 1.5 }),
  withEnvelope('an id in words', { id: 'thirteen' }),
  withEnvelope('an id with leading zeros', { id: '013' }),
  withEnvelope('an id beyond 63 bits', { id: '9223372036854775808' }),
  withEnvelope('an id that is a map', { id: {} }),
  withEnvelope('an id that is a list', { id: [13] }),
  withEnvelope('an id that is a boolean', { id: true }),
  { name: 'not UTF-8', make: () => ({ content: Buffer.of(0x7b, 0x22, 0xff, 0xfe, 0x22, 0x7d) }) },
  {
    name: 'UTF-16',
    make: () => ({ content: Buffer.from(JSON.stringify({ request_body: BODY }), 'utf16le') }),
  },
  { name: 'too large', make: () => ({ content: Buffer.alloc(MAX_MESSAGE_BYTES + 1, ' ') }) },
  term('an Erlang term cut off', 116, 0, 0),
  term('an unknown Erlang tag', 1),
  term('an Erlang list', 106),
  term('an Erlang atom', 119, 2, Buffer.from('ok')),
  term('an Erlang map without its pairs', 116, 0, 0, 0, 9),
  compressed('an Erlang term that inflates beyond the limit', 2 ** 30, Buffer.alloc(1_024)),
  compressed('an Erlang term of another size than it claims', 10, Buffer.alloc(1_024)),
  replyingTo('a reply to the queue itself', (queue) => queue),
  replyingTo('a reply to the error queue', (queue) => `${queue}_error`),
];
