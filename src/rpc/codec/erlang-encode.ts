import { Atom, AtomKeys, hasLoneSurrogate } from './erlang-atom.js';
import { type ErlangLimits, erlangLimits } from './erlang-limits.js';
import {
  ATOM_UTF8_EXT,
  BINARY_EXT,
  INTEGER_EXT,
  LARGE_BIG_EXT,
  LIST_EXT,
  MAP_EXT,
  NEW_FLOAT_EXT,
  NIL_EXT,
  SMALL_ATOM_UTF8_EXT,
  SMALL_BIG_EXT,
  SMALL_INTEGER_EXT,
  VERSION,
} from './erlang-tags.js';

const ENVELOPE_KEYS: ReadonlySet<string> = new Set([
  'queue_name',
  'id',
  'status',
  'request_body',
  'response_body',
]);
/** Of an item of a list in an envelope. */
const ITEM_DEPTH = 2;
const FIRST_BYTES = 1024;
const SHORT_TEXT = 32;

/**
 * Encodes a value as an Erlang term that every OTP since 17 can read: strings as UTF-8 binaries, null and booleans as
 * the atoms `nil`, `true` and `false`, integers in their smallest encoding, other numbers as floats, arrays as lists,
 * objects as maps with binary keys. `atom` and `atomKeys` request atoms.
 *
 * The rules of JSON apply: properties that are undefined are left out, an undefined item is `nil`, `toJSON` is called,
 * -0 is 0. A lone surrogate becomes U+FFFD in a value; in a key it is refused, because two keys could become equal.
 * @throws TypeError for values without an encoding (numbers that are not finite, functions, symbols)
 * @throws RangeError beyond a limit; a circular value exceeds the depth limit
 */
export function encodeTerm(value: unknown, limits: Readonly<ErlangLimits> = erlangLimits()): Buffer {
  const writer = new TermWriter(limits);
  writer.term(value, 0);
  return writer.finish();
}

/**
 * Encodes a message's envelope like `encodeTerm`, but the five keys of the envelope and the value of `status` are
 * atoms. The keys inside `request_body` and `response_body` stay binaries.
 */
export function encodeEnvelope(envelope: unknown, limits: Readonly<ErlangLimits> = erlangLimits()): Buffer {
  const writer = new TermWriter(limits);
  if (isPlainObject(envelope)) writer.envelope(envelope);
  else writer.term(envelope, 0);
  return writer.finish();
}

/** Encodes items of a list that is a value of an envelope, one after the other. */
export function encodeItems(items: readonly unknown[], limits: Readonly<ErlangLimits>): Buffer {
  const writer = new TermWriter(limits);
  for (const item of items) writer.term(item, ITEM_DEPTH);
  return writer.finish().subarray(1);
}

/** What is before the items of a list that is not empty; after them is the empty list. */
export function listHeader(length: number): Buffer {
  const header = Buffer.alloc(5);
  header.writeUInt8(LIST_EXT);
  header.writeUInt32BE(length, 1);
  return header;
}

function isPlainObject(value: unknown): value is Record<string, unknown> {
  if (typeof value !== 'object' || value === null) return false;
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === Object.prototype || prototype === null;
}

class TermWriter {
  private bytes = Buffer.allocUnsafe(FIRST_BYTES);
  private at = 0;
  private readonly limits: Readonly<ErlangLimits>;

  constructor(limits: Readonly<ErlangLimits>) {
    this.limits = limits;
    this.byte(VERSION);
  }

  finish(): Buffer {
    const written = this.bytes.subarray(0, this.at);
    // A copy where much is unused: replies are kept for a while, and a part keeps the whole in memory.
    const isWasteful = this.bytes.length > FIRST_BYTES && this.bytes.length - this.at > this.at / 4;
    return isWasteful ? Buffer.from(written) : written;
  }

  envelope(envelope: Record<string, unknown>): void {
    const status = envelope['status'];
    const named = typeof status === 'string' ? { ...envelope, status: new Atom(status) } : envelope;
    this.map(named, 0, (key) => ENVELOPE_KEYS.has(key));
  }

  term(value: unknown, depth: number): void {
    switch (typeof value) {
      case 'string':
        this.text(value);
        return;
      case 'number':
        return this.number(value);
      case 'boolean':
        return this.atom(value ? 'true' : 'false');
      case 'undefined':
        return this.atom('nil');
      case 'bigint':
        return this.bigint(value);
      case 'object':
        return value === null ? this.atom('nil') : this.object(value, depth);
      default:
        throw new TypeError(`a ${typeof value} cannot be encoded as an Erlang term`);
    }
  }

  private object(value: object, depth: number): void {
    if (Array.isArray(value)) return this.list(value, depth);
    if (value instanceof Atom) return this.atom(value.text);
    if (value instanceof AtomKeys) return this.map(value.entries, depth, always);
    if ('toJSON' in value && typeof value.toJSON === 'function') {
      this.enter(depth);
      return this.term(value.toJSON(), depth + 1);
    }
    this.map(value as Record<string, unknown>, depth, never);
  }

  private list(items: readonly unknown[], depth: number): void {
    this.enter(depth);
    if (items.length > 0) {
      this.reserve(5);
      this.byte(LIST_EXT);
      this.uint32(items.length);
      for (const item of items) this.term(item, depth + 1);
    }
    this.reserve(1);
    this.byte(NIL_EXT);
  }

  private map(map: Readonly<Record<string, unknown>>, depth: number, isAtom: (key: string) => boolean): void {
    this.enter(depth);
    this.reserve(5);
    this.byte(MAP_EXT);
    const lengthAt = this.at;
    this.uint32(0);
    let length = 0;
    for (const key of Object.keys(map)) {
      const value = map[key];
      if (value === undefined) continue;
      length += 1;
      if (isAtom(key)) this.atom(key);
      else this.key(key);
      this.term(value, depth + 1);
    }
    this.bytes.writeUInt32BE(length, lengthAt);
  }

  private key(key: string): void {
    // Equal lengths in bytes and UTF-16 units: the key is ASCII and has no surrogates.
    if (this.text(key) !== key.length && hasLoneSurrogate(key))
      throw new TypeError('a key must be well-formed Unicode');
  }

  /** @returns the length in bytes */
  private text(text: string): number {
    // UTF-8 takes at most three bytes for each UTF-16 unit.
    this.reserve(5 + (text.length <= SHORT_TEXT ? text.length * 3 : Buffer.byteLength(text)));
    this.byte(BINARY_EXT);
    const lengthAt = this.at;
    this.at += 4;
    const length = this.utf8(text);
    this.bytes.writeUInt32BE(length, lengthAt);
    return length;
  }

  private atom(text: string): void {
    this.reserve(3 + text.length * 3);
    const length = Buffer.byteLength(text);
    if (length < 256) {
      this.byte(SMALL_ATOM_UTF8_EXT);
      this.byte(length);
    } else {
      this.byte(ATOM_UTF8_EXT);
      this.byte(length >> 8);
      this.byte(length & 0xff);
    }
    this.utf8(text);
  }

  private utf8(text: string): number {
    const length = this.ascii(text) ? text.length : this.bytes.write(text, this.at, 'utf8');
    this.at += length;
    return length;
  }

  /** Writes a short ASCII string without a slow call into native code. @returns false when it is long or not ASCII */
  private ascii(text: string): boolean {
    if (text.length > SHORT_TEXT) return false;
    for (let i = 0; i < text.length; i++) {
      const unit = text.charCodeAt(i);
      if (unit > 0x7f) return false;
      this.bytes[this.at + i] = unit;
    }
    return true;
  }

  private number(value: number): void {
    if (Number.isSafeInteger(value)) return this.integer(value);
    if (!Number.isFinite(value)) throw new TypeError(`${value} cannot be encoded as an Erlang term`);
    this.reserve(9);
    this.byte(NEW_FLOAT_EXT);
    this.at = this.bytes.writeDoubleBE(value, this.at);
  }

  private integer(value: number): void {
    this.reserve(5);
    if (value >= 0 && value <= 0xff) {
      this.byte(SMALL_INTEGER_EXT);
      this.byte(value);
    } else if ((value | 0) === value) {
      this.byte(INTEGER_EXT);
      this.at = this.bytes.writeInt32BE(value, this.at);
    } else {
      this.big(BigInt(value));
    }
  }

  private bigint(value: bigint): void {
    if (BigInt.asIntN(32, value) === value) this.integer(Number(value));
    else this.big(value);
  }

  private big(value: bigint): void {
    const absolute = value < 0n ? -value : value;
    // Before it is converted: the time for that grows faster than the size.
    if (BigInt.asUintN(this.limits.integerBytes * 8, absolute) !== absolute)
      throw new RangeError(`an integer has more than ${this.limits.integerBytes} bytes`);
    const hex = absolute.toString(16);
    const magnitude = Buffer.from(hex.length % 2 === 0 ? hex : `0${hex}`, 'hex').toReversed();
    const isSmall = magnitude.length < 256;
    this.reserve((isSmall ? 3 : 6) + magnitude.length);
    if (isSmall) {
      this.byte(SMALL_BIG_EXT);
      this.byte(magnitude.length);
    } else {
      this.byte(LARGE_BIG_EXT);
      this.uint32(magnitude.length);
    }
    this.byte(value < 0n ? 1 : 0);
    this.bytes.set(magnitude, this.at);
    this.at += magnitude.length;
  }

  private enter(depth: number): void {
    if (depth >= this.limits.depth)
      throw new RangeError(`the value is nested more than ${this.limits.depth} deep, or contains itself`);
  }

  /** Ensures that this many bytes can be written; the writing methods do not check it. */
  private reserve(length: number): void {
    const needed = this.at + length;
    if (needed <= this.bytes.length) return;
    if (needed > this.limits.encodedBytes)
      throw new RangeError(`the term is larger than ${this.limits.encodedBytes} bytes`);
    const grown = Buffer.allocUnsafe(
      Math.min(Math.max(needed, this.bytes.length * 2), this.limits.encodedBytes),
    );
    this.bytes.copy(grown, 0, 0, this.at);
    this.bytes = grown;
  }

  private byte(byte: number): void {
    this.bytes[this.at++] = byte;
  }

  private uint32(value: number): void {
    this.at = this.bytes.writeUInt32BE(value, this.at);
  }
}

function always(): boolean {
  return true;
}

function never(): boolean {
  return false;
}
