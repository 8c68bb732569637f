import { createRequire } from 'node:module';
import type { connect as amqplibConnect, credentials as amqplibCredentials } from 'amqplib';
import { loadCodec, loadConnection } from './amqplib-files.js';

/** The only header of a message whose headers cannot be decoded. */
export const UNREADABLE = Symbol('unreadable headers');

const require = createRequire(import.meta.url);

type Fields = Record<string | symbol, unknown>;

/** The broker does not offer the mechanism of a login; the message says which ones it offers. */
export class MechanismNotOffered extends Error {
  override readonly name = 'MechanismNotOffered';

  constructor(offered: readonly string[]) {
    super(`the broker offers ${offered.join(', ') || 'none'}`);
  }
}

interface Frame {
  id?: number;
  fields?: { mechanisms?: Buffer; replyCode?: number; replyText?: string };
}
type OnFrame = (error: unknown, frame?: Frame) => void;
type OnOpen = (error: unknown, ok?: unknown) => void;
interface OpeningConnection {
  step: (next: OnFrame) => void;
  open: (fields: { mechanism: string }, done: OnOpen) => void;
}

/**
 * amqplib's errors of a refused login tell neither the mechanisms that the broker offers, nor its reason to refuse a virtual
 * host. Both are in frames that amqplib has read.
 */
function explainRefusals(connection: OpeningConnection): void {
  const { open, step } = connection;
  connection.open = function (this: OpeningConnection, fields, done) {
    let offered: string[] | undefined;
    let reason: string | undefined;
    this.step = (next) =>
      Reflect.apply(step, this, [
        (error: unknown, frame?: Frame) => {
          offered = frame?.fields?.mechanisms?.toString().split(' ').filter(Boolean) ?? offered;
          reason = frame?.fields?.replyText ?? reason;
          next(error, frame);
        },
      ]);
    Reflect.apply(open, this, [
      fields,
      (error: unknown, ok?: unknown) => {
        this.step = step;
        if (offered !== undefined && !offered.includes(fields.mechanism))
          done(new MechanismNotOffered(offered));
        else if (reason !== undefined && error instanceof Error && !error.message.includes(reason))
          done(new Error(reason, { cause: error }));
        else done(error, ok);
      },
    ]);
  };
}

/**
 * amqplib closes the connection when it cannot decode the headers of a message: headers nested too deeply for its
 * recursive decoder, or of a type that RabbitMQ accepts but amqplib does not know. The broker would deliver the message
 * again and again, and every worker would lose its connection. So the decoder is wrapped before amqplib's other modules
 * load it.
 */
function loadAmqplib(): { connect: typeof amqplibConnect; credentials: typeof amqplibCredentials } {
  const codec: { decodeFields: (slice: Buffer) => Fields } = loadCodec();
  const { decodeFields } = codec;
  codec.decodeFields = (slice) => {
    try {
      return decodeFields(slice);
    } catch {
      return { [UNREADABLE]: true };
    }
  };
  const { Connection }: { Connection: { prototype: OpeningConnection } } = loadConnection();
  explainRefusals(Connection.prototype);
  return require('amqplib');
}

export const { connect, credentials } = loadAmqplib();
