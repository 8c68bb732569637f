import type { Destination } from '../rpc/publish-channel.js';
import type { ReplyChannel } from '../rpc/reply-channel.js';
import type { PublishConfirmed } from '../rpc/publisher.js';
import type { BrokerAddress } from '../rpc/broker-address.js';
import type { Clock } from '../lib/clock.js';
import type { Logger } from '../lib/logger.js';
import type { WatchUpstream } from '../lib/upstream.js';
import type { CallEventBus } from '../core/call-events.js';
import type { RunningCall } from '../core/runner.js';
import type { Flow } from '../rpc/rpc-server.js';
import type { ManagerId } from './manager-responses.js';
import { ManagerClient } from './manager-client.js';
import { Overseer } from './overseer.js';
import { RecordReplyChannel } from './record-reply-channel.js';
import { SystemEvents } from './system-events.js';
import { serviceTopology, type Topology } from './topology.js';

/** The address of an OpenAperture installation, and the role of this service in it. */
export interface InstallationSettings {
  managerUrl: string;
  oauth: { url: string; clientId: string; clientSecret: string };
  exchangeId: ManagerId;
  brokerId: ManagerId;
  moduleType: string;
  /** The largest reply that is saved in a record, in bytes. */
  maxRecordBytes: number;
}

interface InstallationDependencies {
  hostname: string;
  clock: Clock;
  log: Logger;
  /** Is told of each call of the Manager; undefined: nobody is. */
  watchUpstream?: WatchUpstream | undefined;
}

/** What the installation needs of the service. */
export interface ServiceSide {
  publish: PublishConfirmed;
  /** Whether the service is connected to a preferred broker. */
  onPreferred: () => boolean;
  running: () => readonly RunningCall[];
}

/**
 * This service as a module of an OpenAperture installation. It finds the brokers, saves replies in records of the
 * Manager, registers with the Overseer and reports system events.
 */
export class Installation {
  readonly #settings: InstallationSettings;
  readonly #dependencies: InstallationDependencies;
  readonly #topology: Topology;
  readonly #events: SystemEvents;
  readonly #stopped = new AbortController();
  readonly manager: ManagerClient;
  #overseer: Overseer | undefined;

  /** @throws Error when a URL cannot be used */
  constructor(settings: InstallationSettings, dependencies: InstallationDependencies) {
    this.#settings = settings;
    this.#dependencies = dependencies;
    this.manager = new ManagerClient({
      url: settings.managerUrl,
      oauth: settings.oauth,
      clock: dependencies.clock,
      watch: dependencies.watchUpstream,
    });
    const { exchangeId, brokerId } = settings;
    const { hostname, clock, log } = dependencies;
    this.#topology = serviceTopology({ manager: this.manager, exchangeId, brokerId, clock, log });
    this.#events = new SystemEvents({ manager: this.manager, exchangeId, hostname, clock, log });
  }

  readonly brokers = async (): Promise<readonly BrokerAddress[]> =>
    this.#topology.brokers({ signal: new AbortController().signal });

  /** Where a queue of the exchange is bound, on the broker of a connection. */
  readonly bindings = async (
    queue: string,
    { preferred }: { preferred: boolean },
  ): Promise<readonly Destination[]> => [
    await this.#topology.destination(queue, { preferred, signal: new AbortController().signal }),
  ];

  /** Call it when a connection was lost. */
  readonly refresh = (): void => this.#topology.refresh();

  /** Reports unexpected failures to the Manager from now on. */
  watch(events: CallEventBus): void {
    this.#events.watch(events);
  }

  channels(flow: Flow): ReplyChannel[] {
    const { exchangeId, maxRecordBytes } = this.#settings;
    const { clock, log } = this.#dependencies;
    const { pause, resume } = flow;
    return [
      new RecordReplyChannel({
        manager: this.manager,
        exchangeId,
        maxRecordBytes,
        pause,
        resume,
        stopped: this.#stopped.signal,
        clock,
        log,
      }),
    ];
  }

  /** Registers with the Overseer and begins to send heartbeats. */
  start({ publish, onPreferred, running }: ServiceSide): void {
    const { exchangeId, moduleType } = this.#settings;
    const { hostname, clock, log } = this.#dependencies;
    this.#overseer = new Overseer({
      manager: this.manager,
      exchangeId,
      hostname,
      moduleType,
      clock,
      log,
      publish: async (queue, body, signal) => {
        const to = await this.#topology.destination(queue, { preferred: onPreferred(), signal });
        const outcome = await publish(to, body, { persistent: true }, { signal });
        if (outcome === 'nacked') throw new Error(`the queue ${queue} is full`);
        if (outcome === 'unroutable')
          throw new Error(`no queue is bound to ${to.exchange} with the routing key ${to.routingKey}`);
      },
      running: () => running().map((each) => ({ ...each, cluster: each.cluster?.hash })),
    });
    this.#overseer.start();
  }

  /** Sends the last heartbeat and closes; call it while the broker is still connected. */
  async stop(): Promise<void> {
    this.#stopped.abort(new Error('the service is shutting down'));
    await Promise.all([this.#overseer?.stop(), this.#events.close()]);
    await this.manager.close();
  }
}
