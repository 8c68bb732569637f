import { Semaphore } from '../lib/semaphore.js';
import { untilAborted } from '../lib/until-aborted.js';

/** Finds the addresses of a host name. It cannot be cancelled, and takes long when the name's server is silent. */
export type Lookup = (host: string) => Promise<readonly { address: string }[]>;

/**
 * Node looks up two names at the same time (libuv, `uv_getaddrinfo`: half of its four threads), and the others wait. With one
 * of the two, names that callers and machines choose never delay those of discovery, the Manager and the brokers, which do
 * not come here.
 */
const AT_THE_SAME_TIME = 1;

interface SharedLookup {
  addresses: Promise<readonly { address: string }[]>;
  begun: boolean;
  waiting: number;
  /** Takes it off the queue. */
  abandon: AbortController;
}

/** Looks up the names that callers and machines choose, one after the other. Calls for the same name share one lookup. */
export class NameLookups {
  readonly #lookup: Lookup;
  readonly #permits = new Semaphore(AT_THE_SAME_TIME);
  readonly #shared = new Map<string, SharedLookup>();

  constructor(lookup: Lookup) {
    this.#lookup = lookup;
  }

  /**
   * Rejects with the lookup's error, or with the signal's reason when that is aborted first. A lookup for which nobody
   * waits any more is not begun.
   */
  async addresses(host: string, signal: AbortSignal): Promise<string[]> {
    signal.throwIfAborted();
    const shared = this.#shared.get(host) ?? this.#enqueue(host);
    shared.waiting++;
    try {
      const found = await untilAborted(shared.addresses, signal);
      return found.map(({ address }) => address);
    } finally {
      if (--shared.waiting === 0 && !shared.begun) {
        this.#forget(host, shared);
        shared.abandon.abort();
      }
    }
  }

  #enqueue(host: string): SharedLookup {
    const abandon = new AbortController();
    const shared: SharedLookup = {
      addresses: this.#permits.acquire(abandon.signal).then(async (release) => {
        try {
          // It may have been abandoned when its turn had come.
          abandon.signal.throwIfAborted();
          shared.begun = true;
          return await this.#lookup(host);
        } finally {
          release();
          this.#forget(host, shared);
        }
      }),
      begun: false,
      waiting: 0,
      abandon,
    };
    this.#shared.set(host, shared);
    return shared;
  }

  #forget(host: string, shared: SharedLookup): void {
    if (this.#shared.get(host) === shared) this.#shared.delete(host);
  }
}
