import { randomUUID } from 'node:crypto';
import { type Backoff, backoffMs } from '../lib/backoff.js';
import type { Clock } from '../lib/clock.js';
import type { OutageLog } from '../lib/outage-log.js';
import type { BrokerConnection } from './broker-connection.js';
import type { ConfirmChannel } from './confirm-channel.js';
import { PublishRefused } from './publish-errors.js';

export interface WritePermissionOptions {
  clock: Clock;
  outage: OutageLog;
  /** Called when the permission is found to be missing, and when it is back. */
  changed?: () => void;
}

const RETRY: Backoff = { firstMs: 1_000, maxMs: 5_000 };
/** AMQP's reply code ACCESS_REFUSED. */
const ACCESS_REFUSED = 403;

/**
 * Whether the broker lets this user publish to the default exchange, through which requests and replies are sent. While it
 * does not, it is tried again with messages that reach nobody.
 */
export class WritePermission {
  readonly #connection: Pick<BrokerConnection, 'lost'>;
  readonly #channel: Pick<ConfirmChannel, 'publish'>;
  readonly #options: WritePermissionOptions;
  #refusal: string | undefined;
  #granted: Promise<void> = Promise.resolve();

  constructor(
    connection: Pick<BrokerConnection, 'lost'>,
    channel: Pick<ConfirmChannel, 'publish'>,
    options: WritePermissionOptions,
  ) {
    this.#connection = connection;
    this.#channel = channel;
    this.#options = options;
  }

  /** The broker's text while the permission is missing. */
  get refusal(): string | undefined {
    return this.#connection.lost.aborted ? undefined : this.#refusal;
  }

  /** Resolves when the permission is there, or when the connection is lost. */
  get granted(): Promise<void> {
    return this.#granted;
  }

  /** Publishes a message that reaches nobody, to learn whether the permission is there. */
  async check(): Promise<void> {
    const refusal = await refusalOfProbe(this.#channel);
    if (refusal !== undefined) this.missing(refusal);
    // It may have been missing on the connection before.
    else this.#options.outage.succeeded();
  }

  /** Call it with the refusal of a message; tries again until the permission is there. */
  missing(refusal: PublishRefused): void {
    if (this.refusal !== undefined) return;
    this.#refusal = withHint(refusal);
    this.#options.outage.failed({ reason: this.#refusal });
    this.#granted = this.#untilGranted();
    this.#options.changed?.();
  }

  async #untilGranted(): Promise<void> {
    const { clock, outage, changed } = this.#options;
    const { lost } = this.#connection;
    for (let failed = 1; !lost.aborted; failed++) {
      await clock.sleep(backoffMs(failed, RETRY), { signal: lost }).catch(() => {});
      const refusal = await refusalOfProbe(this.#channel).catch(() => undefined);
      if (lost.aborted) return;
      if (refusal !== undefined) continue;
      this.#refusal = undefined;
      outage.succeeded();
      changed?.();
      return;
    }
  }
}

/**
 * Publishes a message that reaches nobody to the default exchange.
 * @returns the refusal when the permission is missing
 * @throws when the connection is lost
 */
async function refusalOfProbe(channel: Pick<ConfirmChannel, 'publish'>): Promise<PublishRefused | undefined> {
  const nobody = { exchange: '', routingKey: `fleet_manager.probe.${randomUUID()}` };
  try {
    await channel.publish(nobody, Buffer.alloc(0), {}, { sharing: 'alone' });
    return undefined;
  } catch (error) {
    if (isAccessRefused(error)) return error;
    throw error;
  }
}

/** Why a user may not publish to the default exchange; undefined when it may. */
export async function missingWritePermission(channel: ConfirmChannel): Promise<string | undefined> {
  const refusal = await refusalOfProbe(channel);
  return refusal && withHint(refusal);
}

function withHint({ message }: PublishRefused): string {
  return `${message} (it lacks the write permission)`;
}

/** Whether the broker refused a message because the user may not publish to its exchange. */
export function isAccessRefused(error: unknown): error is PublishRefused {
  return error instanceof PublishRefused && error.code === ACCESS_REFUSED;
}
