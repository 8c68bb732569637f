import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import type { connect as amqplibConnect, credentials as amqplibCredentials } from 'amqplib';

/** The only header of a message whose headers cannot be decoded. */
export const UNREADABLE = Symbol('unreadable headers');

const require = createRequire(import.meta.url);

type Fields = Record<string | symbol, unknown>;

/**
 * amqplib closes the connection when it cannot decode the headers of a message: headers nested too deeply for its
 * recursive decoder, or of a type that RabbitMQ accepts but amqplib does not know. The broker would deliver the message
 * again and again, and every worker would lose its connection. So the decoder is wrapped before amqplib's other modules
 * load it.
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
