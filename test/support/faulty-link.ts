import type { ConfirmChannel } from 'amqplib';
import type { Connect } from '../../src/rpc/open-connection.js';
import { cuttable, type TestBroker } from './brokers.js';

/** A connection to a broker, with faults that the test controls. */
export interface FaultyLink {
  connect: Connect;
  /** From now on no confirmation gets through, or none of messages for this queue; what is published arrives anyway. */
  withholdConfirms(queue?: string): void;
  passConfirms(): void;
  /** Lets the confirmations through that are withheld so far, too. */
  passWithheld(): void;
  /** Closes the channels whose confirmations are withheld, as a broker does over some message that it refuses. */
  refuseWithheld(): void;
  /** Blocks new connections. The returned function unblocks them, including pending ones. */
  hold(): () => void;
  /** Blocks new channels for messages. The returned function unblocks them, including pending ones. */
  holdChannels(): () => void;
  /** Cuts every connection; new ones are possible unless they are blocked. */
  cut(): void;
  /** The next message is refused, as by a full queue, and then every connection is cut. */
  refuseAndCut(): void;
  /** Cuts every connection when the next channel is opened. */
  cutAtNextChannel(): void;
  /**
   * How many connections were requested, were made, and are open, how many messages were refused, and how many
   * confirmations were withheld.
   */
  counts: { asked: number; made: number; open: number; refused: number; withheld: number };
}

export function faultyLink(broker: TestBroker): FaultyLink {
  const { connect: make, cut } = cuttable(broker);
  const counts = { asked: 0, made: 0, open: 0, refused: 0, withheld: 0 };
  let isWithheld = (_queue: string): boolean => false;
  const withheldOn = new Map<ConfirmChannel, (() => void)[]>();
  let refuses = false;
  let cutsAtChannel = false;
  let gate: Promise<void> | undefined;
  let channelGate: Promise<void> | undefined;
  const connect: Connect = async (url, options) => {
    counts.asked++;
    await gate;
    const connection = await make(url, options);
    counts.made++;
    counts.open++;
    connection.once('close', () => counts.open--);
    const cutOnce = () => {
      if (!cutsAtChannel) return;
      cutsAtChannel = false;
      cut();
    };
    const createConfirmChannel = connection.createConfirmChannel.bind(connection);
    connection.createConfirmChannel = async () => {
      cutOnce();
      await channelGate;
      const channel = await createConfirmChannel();
      const publish = channel.publish.bind(channel);
      channel.publish = (exchange, routingKey, content, given, confirmed) => {
        if (refuses) {
          refuses = false;
          counts.refused++;
          confirmed?.(new Error('message nacked'), {});
          connection.emit('close');
          cut();
          return true;
        }
        return publish(exchange, routingKey, content, given, (error, ok) => {
          if (!isWithheld(routingKey)) return confirmed?.(error, ok);
          counts.withheld++;
          withheldOn.set(channel, [...(withheldOn.get(channel) ?? []), () => confirmed?.(error, ok)]);
        });
      };
      return channel;
    };
    const createChannel = connection.createChannel.bind(connection);
    connection.createChannel = async () => {
      cutOnce();
      return createChannel();
    };
    return connection;
  };
  return {
    connect,
    withholdConfirms: (only) => (isWithheld = (queue) => only === undefined || queue === only),
    passConfirms: () => (isWithheld = () => false),
    passWithheld: () => {
      isWithheld = () => false;
      for (const confirmations of withheldOn.values()) for (const confirm of confirmations) confirm();
      withheldOn.clear();
    },
    refuseWithheld: () => {
      const refusal = new Error(
        'Channel closed by server: 403 (ACCESS-REFUSED) with message "ACCESS_REFUSED"',
      );
      for (const channel of withheldOn.keys()) channel.emit('error', Object.assign(refusal, { code: 403 }));
      withheldOn.clear();
    },
    hold: () => {
      let release = () => {};
      gate = new Promise((resolve) => (release = resolve));
      return () => {
        gate = undefined;
        release();
      };
    },
    holdChannels: () => {
      let release = () => {};
      channelGate = new Promise((resolve) => (release = resolve));
      return () => {
        channelGate = undefined;
        release();
      };
    },
    cut,
    refuseAndCut: () => (refuses = true),
    cutAtNextChannel: () => (cutsAtChannel = true),
    counts,
  };
}
