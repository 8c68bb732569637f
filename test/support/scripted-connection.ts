import { EventEmitter } from 'node:events';
import type { ChannelModel, Options } from 'amqplib';
import { BrokerConnection } from '../../src/rpc/broker-connection.js';

/** A message that was written to a scripted channel. */
export interface ScriptedMessage {
  bytes: number;
  options: Options.Publish;
  channel: ScriptedChannel;
  /** The broker confirms it. */
  confirm: () => void;
}

/** A channel whose broker does nothing until the test says so. */
export class ScriptedChannel extends EventEmitter {
  readonly #received: (message: ScriptedMessage) => void;
  readonly #asked: { resolve: () => void; reject: (error: Error) => void }[] = [];
  /** Finishes the closing that was asked for. */
  finishClose: (() => void) | undefined;

  constructor(
    readonly number: number,
    received: (message: ScriptedMessage) => void,
  ) {
    super();
    this.#received = received;
  }

  publish(
    _exchange: string,
    _routingKey: string,
    body: Buffer,
    options: Options.Publish,
    done: (error: null) => void,
  ): void {
    if (options.type === 'cannot be encoded') throw new TypeError('a bad property');
    this.#received({ bytes: body.length, options, channel: this, confirm: () => done(null) });
  }

  prefetch(): Promise<void> {
    return new Promise((resolve, reject) => this.#asked.push({ resolve, reject }));
  }

  async close(): Promise<void> {
    return new Promise((resolve) => {
      this.finishClose = () => {
        this.emit('close');
        resolve();
      };
    });
  }

  /** The broker has accepted what was written until now. */
  accept(): void {
    for (const { resolve } of this.#asked.splice(0)) resolve();
  }

  /** The broker closes it over a message. */
  refuse(code: number, text: string): void {
    this.#rejectAsked();
    this.emit('error', Object.assign(new Error(text), { code }));
    this.end();
  }

  /** It is closed, as when the connection is lost. */
  end(): void {
    this.#rejectAsked();
    this.emit('close');
  }

  #rejectAsked(): void {
    for (const { reject } of this.#asked.splice(0)) reject(new Error('channel ended'));
  }
}

/** A connection whose broker does nothing but open channels until the test says so. */
export function scriptedConnection({ channelMax = 2_047 } = {}) {
  const written: ScriptedMessage[] = [];
  const channels: ScriptedChannel[] = [];
  const script = { opening: async () => {} };
  const model = Object.assign(new EventEmitter(), {
    connection: { channelMax },
    createConfirmChannel: async () => {
      await script.opening();
      const channel = new ScriptedChannel(channels.length, (message) => written.push(message));
      channels.push(channel);
      return channel;
    },
    close: async () => {},
  });
  const connection = new BrokerConnection(model as unknown as ChannelModel, { url: 'amqp://fake.invalid' });
  return { connection, model, script, written, channels };
}
