import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import type { connect as amqplibConnect, credentials as amqplibCredentials } from 'amqplib';

/** Replaces the headers of a message that cannot be read. */
export const UNREADABLE = Symbol('unreadable headers');

const require = createRequire(import.meta.url);

type Fields = Record<string | symbol, unknown>;

/**
 * amqplib closes the connection over a message whose headers it cannot read: nested too deeply for its recursive reader,
 * or of a type that it does not know and RabbitMQ accepts. The message would be delivered again, and cost every worker its
 * connection in turn, without end. So the reader is wrapped, before the rest of amqplib imports it.
 */
function loadAmqplib(): { connect: typeof amqplibConnect; credentials: typeof amqplibCredentials } {
  const entry = require.resolve('amqplib');
  const codec: { decodeFields: (slice: Buffer) => Fields } = require(join(dirname(entry), 'lib', 'codec.js'));
  const { decodeFields } = codec;
  codec.decodeFields = (slice) => {
    try {
      return decodeFields(slice);
    } catch {
      return { [UNREADABLE]: true };
    }
  };
  return require(entry);
}

export const { connect, credentials } = loadAmqplib();
