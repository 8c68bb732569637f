export interface DeliveryWindowOptions {
  /** `PREFETCH`: how many messages may be unacknowledged. */
  prefetch: number;
  /** How many messages of the largest size the memory budget has room for, when it is empty. */
  fits: number;
  /** The same now; negative when it is used up. */
  room: () => number;
  /** The number of unacknowledged messages. */
  held: () => number;
}

/** How many messages the window grows by at once. */
const STEP = 100;
/** Requests that wait for what does not respond may enlarge the window by this many times `PREFETCH`. */
const MAX_EXTRA = 4;

/**
 * Decides how many messages the broker may deliver before some are acknowledged. A message cannot be refused before its body
 * has arrived, so the window begins with as many as memory has room for at their largest, and grows in steps while there is
 * room. What waits for a cluster or a reply queue that does not respond is not counted, so that it keeps out no other requests.
 */
export class DeliveryWindow {
  readonly #options: DeliveryWindowOptions;
  /** The size on a new connection. */
  readonly initial: number;
  #withoutResponse = 0;
  #slowReplies = 0;

  constructor(options: DeliveryWindowOptions) {
    this.#options = options;
    this.initial = Math.max(1, Math.min(options.prefetch, options.fits));
  }

  /** @param calls how many are held for clusters that do not respond */
  setWithoutResponse(calls: number): void {
    this.#withoutResponse = calls;
  }

  /** @param replies how many are held because the broker has not confirmed their replies for long */
  setSlowReplies(replies: number): void {
    this.#slowReplies = replies;
  }

  /** The size that a window of this size should have now. */
  next(size: number): number {
    const { prefetch, room, held } = this.#options;
    const most = prefetch + Math.min(this.#withoutResponse + this.#slowReplies, prefetch * MAX_EXTRA);
    const free = room();
    if (free <= 0) return Math.min(size, this.initial);
    // Only when it is far too large: each change takes the broker a moment.
    if (size >= most + STEP) return Math.max(most, this.initial);
    if (held() < size) return size;
    return Math.max(size, Math.min(most, size + STEP, size + Math.floor(free)));
  }
}
