import { MAX_ELEMENTS } from '../../lib/bounded-json.js';
import { MAX_INTEGER_BYTES } from '../../lib/exact-json.js';

/** Limits for reading or writing one term. A term beyond a limit is refused with a reason. */
export interface ErlangLimits {
  /** Nesting depth of containers (lists, tuples, maps); at most 1,000, because reading and writing are recursive. */
  depth: number;
  /**
   * Total number of terms to read: every value, every key, every item of a string of integers. A compressed body of a
   * few kilobytes can contain millions, and reading them blocks the process.
   */
  elements: number;
  /** Inflated bytes of a compressed body. */
  inflatedBytes: number;
  /** Bytes of one integer's magnitude. The time to read or write an integer grows faster than its size. */
  integerBytes: number;
  /** Bytes of an encoded term; the default is the largest message that RabbitMQ 3.8 to 3.13 accept. */
  encodedBytes: number;
}

const DEFAULTS: Readonly<ErlangLimits> = {
  depth: 100,
  elements: MAX_ELEMENTS,
  inflatedBytes: 16 * 1024 * 1024,
  integerBytes: MAX_INTEGER_BYTES,
  encodedBytes: 128 * 1024 * 1024,
};

/** Fills in the defaults: depth 100, 100,000 elements, 16 MiB inflated, integers of 64 bytes, 128 MiB encoded. */
export function erlangLimits(given: Partial<ErlangLimits> = {}): Readonly<ErlangLimits> {
  const limits = { ...DEFAULTS, ...given };
  for (const [name, limit] of Object.entries(limits)) {
    if (!Number.isSafeInteger(limit) || limit < 1)
      throw new RangeError(`the limit ${name} must be a whole number of at least 1`);
  }
  if (limits.depth > 1000) throw new RangeError('the limit depth must be at most 1,000');
  return limits;
}
