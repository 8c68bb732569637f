import type { Options } from 'amqplib';
import { ANONYMOUS, type Caller, type Voucher } from '../api/caller.js';
import type { Call } from '../core/call.js';

/**
 * The headers in which a program with the service's own user hands a caller on: the name (empty: nobody has verified one), who has
 * verified it, and how the request came to this service. The gateway writes them, and so does a worker that publishes a message
 * again. From anyone else they prove nothing.
 */
const [CALLER, VERIFIED_BY, DOOR] = ['x-caller', 'x-caller-verified-by', 'x-door'];

const VOUCHERS: Readonly<Record<Voucher, true>> = { broker: true, token: true, manager: true, service: true };
const DOORS: Readonly<Record<Call['door'], true>> = { amqp: true, http: true, manager: true };

/** Who sent a message. */
export interface Sender {
  /** The user; undefined: not known. */
  readonly name: string | undefined;
  /** Who has verified that; undefined: nobody, and the name is only as good as any other text of the message. */
  readonly verifiedBy: Voucher | undefined;
  /** How the request came to the service, where somebody who can be believed says so. */
  readonly door: Call['door'] | undefined;
}

/** A message without a `user_id`: the usual case. */
const UNKNOWN: Sender = Object.freeze({ name: undefined, verifiedBy: undefined, door: undefined });

/**
 * @param ownUser the user of this worker, of other workers, and of the gateway; undefined when it is not known
 * @param isPublishedAgain whether the message says that a worker has published it again
 */
export function readSender(
  { userId, headers = {} }: { userId?: unknown; headers?: Record<string, unknown> },
  ownUser: string | undefined,
  isPublishedAgain: boolean,
): Sender {
  const publisher = textOf(userId);
  const named = headers[CALLER];
  if (publisher !== undefined && publisher === ownUser && typeof named === 'string') {
    const door = headers[DOOR];
    return {
      name: textOf(named),
      verifiedBy: named === '' ? undefined : voucherOf(headers[VERIFIED_BY]),
      door: isKeyOf(DOORS, door) ? door : undefined,
    };
  }
  // Only to tell this request from others with the same id.
  if (isPublishedAgain) return { name: textOf(named), verifiedBy: undefined, door: undefined };
  return publisher === undefined ? UNKNOWN : { name: publisher, verifiedBy: 'broker', door: undefined };
}

/** The caller as far as it is verified. */
export function callerOf({ name, verifiedBy }: Sender): Caller {
  return name === undefined || verifiedBy === undefined ? ANONYMOUS : { name, verifiedBy };
}

/** The sender of a message that hands a caller on. */
export function senderOf({ caller, door }: Pick<Call, 'caller' | 'door'>): Sender {
  const { name, verifiedBy } = caller;
  return { name: verifiedBy === undefined ? undefined : name, verifiedBy, door };
}

/**
 * What hands the sender of a message on, when it is published again, or in another's name.
 * @param ownUser undefined: it is not known, so that nobody can be made to believe it
 */
export function handedOn(
  { name, verifiedBy, door }: Sender,
  ownUser: string | undefined,
): Pick<Options.Publish, 'userId' | 'headers'> {
  return {
    // A name that nobody has verified must not become a verified one.
    ...(ownUser !== undefined && (name === undefined || verifiedBy !== undefined) && { userId: ownUser }),
    // Also when it is not known: the message may come with such headers.
    headers: { [CALLER]: name ?? '', [VERIFIED_BY]: verifiedBy ?? '', [DOOR]: door ?? '' },
  };
}

function voucherOf(value: unknown): Voucher {
  return isKeyOf(VOUCHERS, value) ? value : 'service';
}

function isKeyOf<K extends string>(keys: Readonly<Record<K, true>>, value: unknown): value is K {
  return typeof value === 'string' && Object.hasOwn(keys, value);
}

function textOf(value: unknown): string | undefined {
  return typeof value === 'string' && value !== '' ? value : undefined;
}
