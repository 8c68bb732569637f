import type { Clock } from '../lib/clock.js';
import { settledWithin } from '../lib/settled-within.js';
import { AnswerLedger } from './redelivery-memory.js';
import type { Dispatcher } from '../core/runner.js';
import type { Codecs } from './codec/codecs.js';
import { type PublishSurely, type ReplyChannel, ReplyToChannel } from './reply-channel.js';
import { type Finished, type IntakeOptions, RequestIntake } from './rpc-handler.js';
import { RequestServer, type RequestServerOptions } from './amqp-endpoint.js';

export interface RequestServiceOptions
  extends Omit<RequestServerOptions, 'onDelivery' | 'onLost' | 'onRetire'>,
    Pick<IntakeOptions, 'maxMessageBytes' | 'maxAnswerBytes' | 'logFor'> {
  dispatcher: Dispatcher;
  codecs: Codecs;
  /** A connection was lost, before the next is made. */
  onLost?: () => void;
  /** Further ways for answers; `pause` and `resume` keep the service from taking requests meanwhile. */
  replies?: (flow: { pause: () => void; resume: () => void }) => readonly ReplyChannel[];
}

/** Time for the broker to stop delivering. */
const STOP_MS = 5_000;
/** Time for answers that are finished to reach the broker at shutdown, and for aborted work to say so. */
const SETTLE_MS = 5_000;

/** Takes requests off the queue, has them done, and sees to it that each is answered and acknowledged. */
export class RequestService {
  readonly #clock: Clock;
  readonly #dispatcher: Dispatcher;
  readonly #server: RequestServer;
  readonly #intake: RequestIntake;

  constructor(options: RequestServiceOptions) {
    const { dispatcher, clock } = options;
    this.#clock = clock;
    this.#dispatcher = dispatcher;
    this.#server = new RequestServer({
      ...options,
      onDelivery: (delivery) => this.#intake.take(delivery),
      onLost: (live) => {
        dispatcher.dropWaiting(live);
        options.onLost?.();
      },
      onRetire: (live) => this.#intake.settled(live),
    });
    this.#intake = new RequestIntake({
      ...options,
      ledger: new AnswerLedger<Finished>(clock),
      replies: [
        new ReplyToChannel(this.#server.publish),
        ...(options.replies?.({ pause: () => this.#server.pause(), resume: () => this.#server.resume() }) ??
          []),
      ],
      publish: this.#server.publish,
    });
  }

  start(): void {
    this.#server.start();
  }

  /** Why no requests are taken right now; empty when they are. */
  notReady(): string[] {
    const full = 'a queue is full that messages are to be put into; the log says which';
    return [...this.#server.notReady(), ...(this.#intake.isStuck ? [full] : [])];
  }

  /** Publishes by the service's connection. */
  get publish(): PublishSurely {
    return this.#server.publish;
  }

  /** Whether the service is on the broker that is wanted, not on one that stands in for it. */
  get onPreferred(): boolean {
    return this.#server.onPreferred;
  }

  /** How many messages are held unacknowledged. */
  get held(): number {
    return this.#intake.held;
  }

  /**
   * Takes nothing more, puts back what was not begun, lets what runs end within the grace time, then aborts it.
   * @returns whether everything was answered and acknowledged
   */
  async drain(graceMs: number): Promise<boolean> {
    // A broker that accepts no messages for now does not answer this either.
    await settledWithin(STOP_MS, this.#clock, this.#server.stopConsuming());
    await this.#dispatcher.drain(graceMs);
    const settled = await settledWithin(SETTLE_MS, this.#clock, this.#intake.settled());
    this.#intake.stop();
    return settled;
  }

  async close(): Promise<void> {
    await this.#server.close();
  }
}
