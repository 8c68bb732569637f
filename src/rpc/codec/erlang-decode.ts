import { isUtf8 } from 'node:buffer';
import { DecodeError } from './codec.js';
import { ATOM_CHARACTERS, fitsAtom } from './erlang-atom.js';
import { inflateTerm } from './erlang-inflate.js';
import type { StringCache } from './erlang-string-cache.js';
import type { ErlangLimits } from './erlang-limits.js';
import {
  ATOM_EXT,
  ATOM_UTF8_EXT,
  BINARY_EXT,
  COMPRESSED,
  FLOAT_EXT,
  INTEGER_EXT,
  LARGE_BIG_EXT,
  LARGE_TUPLE_EXT,
  LIST_EXT,
  MAP_EXT,
  NEW_FLOAT_EXT,
  NIL_EXT,
  REFUSED,
  SMALL_ATOM_EXT,
  SMALL_ATOM_UTF8_EXT,
  SMALL_BIG_EXT,
  SMALL_INTEGER_EXT,
  SMALL_TUPLE_EXT,
  STRING_EXT,
  VERSION,
} from './erlang-tags.js';

const FLOAT_EXT_BYTES = 31;
const FLOAT_TEXT = /^ *([+-]?\d+\.\d+(?:e[+-]?\d+)?)\0*$/;

/**
 * Decodes one term of the external format of Erlang/OTP 17 to 27 into plain values.
 *
 * Work and memory are bounded: a length is checked against the remaining bytes before it is used, every term takes at
 * least one byte and counts against `limits.elements`, and nesting is limited by `limits.depth`.
 */
export class TermReader {
  /** The number of terms read, never more than the number of bytes read. */
  elements = 0;
  private bytes: Buffer;
  private at = 0;
  private readonly limits: Readonly<ErlangLimits>;
  private readonly known: StringCache;

  constructor(body: Uint8Array, limits: Readonly<ErlangLimits>, known: StringCache) {
    this.bytes = Buffer.isBuffer(body) ? body : Buffer.from(body.buffer, body.byteOffset, body.byteLength);
    this.limits = limits;
    this.known = known;
  }

  /** Reads the whole body, once. Throws `DecodeError`. */
  read(): unknown {
    if (this.byte() !== VERSION) throw new DecodeError('not an Erlang term: the first byte is not 131');
    if (this.bytes[this.at] === COMPRESSED) {
      this.bytes = inflateTerm(this.bytes.subarray(this.at + 1), this.limits.inflatedBytes);
      this.at = 0;
    }
    const value = this.term(0);
    if (this.at !== this.bytes.length) throw this.refusal('bytes follow the term');
    return value;
  }

  private term(depth: number): unknown {
    const tag = this.byte();
    this.count(1);
    switch (tag) {
      case SMALL_INTEGER_EXT:
        return this.byte();
      case INTEGER_EXT:
        return this.uint32() | 0;
      case SMALL_BIG_EXT:
        return this.integer(this.byte());
      case LARGE_BIG_EXT:
        return this.integer(this.uint32());
      case NEW_FLOAT_EXT:
        return this.finite(this.bytes.readDoubleBE(this.take(8)));
      case FLOAT_EXT:
        return this.floatText();
      case BINARY_EXT:
        return this.utf8(this.take(this.uint32()));
      case NIL_EXT:
        return this.list(0, depth);
      case STRING_EXT:
        return this.stringOfIntegers(this.uint16(), depth);
      case LIST_EXT:
        return this.properList(this.uint32(), depth);
      case SMALL_TUPLE_EXT:
        return this.list(this.byte(), depth);
      case LARGE_TUPLE_EXT:
        return this.list(this.uint32(), depth);
      case MAP_EXT:
        return this.map(this.uint32(), depth);
      default:
        return atomValue(this.atom(tag));
    }
  }

  /** The text of an atom in any of its four encodings. */
  private atom(tag: number): string {
    switch (tag) {
      case SMALL_ATOM_UTF8_EXT:
        return this.utf8Atom(this.byte());
      case ATOM_UTF8_EXT:
        return this.utf8Atom(this.uint16());
      case SMALL_ATOM_EXT:
        return this.latin1Atom(this.byte());
      case ATOM_EXT:
        return this.latin1Atom(this.uint16());
      default:
        throw this.refusal(`the term contains ${REFUSED.get(tag) ?? `an unknown tag (${tag})`}`);
    }
  }

  private latin1Atom(length: number): string {
    if (length > ATOM_CHARACTERS) throw this.refusal(`an atom has more than ${ATOM_CHARACTERS} characters`);
    const start = this.take(length);
    return this.known.ascii(this.bytes, start, this.at) ?? this.bytes.toString('latin1', start, this.at);
  }

  private utf8Atom(length: number): string {
    const text = this.knownUtf8(length);
    if (!fitsAtom(text)) throw this.refusal(`an atom has more than ${ATOM_CHARACTERS} characters`);
    return text;
  }

  private knownUtf8(length: number): string {
    const start = this.take(length);
    return this.known.ascii(this.bytes, start, this.at) ?? this.utf8(start);
  }

  /** The text from `start` to here. */
  private utf8(start: number): string {
    const text = this.bytes.toString('utf8', start, this.at);
    // Invalid bytes are decoded as U+FFFD, so only a string with U+FFFD needs the slower check.
    if (text.includes('\uFFFD') && !isUtf8(this.bytes.subarray(start, this.at)))
      throw this.refusal('a binary or an atom is not UTF-8');
    return text;
  }

  /** SMALL_BIG and LARGE_BIG: a sign, then the magnitude, least significant byte first. */
  private integer(length: number): number | bigint {
    if (length > this.limits.integerBytes)
      throw this.refusal(`an integer has more than ${this.limits.integerBytes} bytes`);
    const negative = this.byte() !== 0;
    const start = this.take(length);
    if (length === 0) return 0;
    if (length <= 6) {
      const magnitude = this.bytes.readUIntLE(start, length);
      return negative ? 0 - magnitude : magnitude;
    }
    const hex = Buffer.from(this.bytes.subarray(start, this.at).toReversed()).toString('hex');
    const magnitude = BigInt(`0x${hex}`);
    const value = negative ? -magnitude : magnitude;
    return Number.isSafeInteger(Number(value)) ? Number(value) : value;
  }

  /** FLOAT_EXT, which OTP writes with `minor_version` 0: the text of `%.20e`, padded with zero bytes. */
  private floatText(): number {
    const start = this.take(FLOAT_EXT_BYTES);
    const match = FLOAT_TEXT.exec(this.bytes.toString('latin1', start, this.at));
    if (match === null) throw this.refusal('a float is malformed');
    return this.finite(Number(match[1]));
  }

  private finite(value: number): number {
    if (!Number.isFinite(value)) throw this.refusal('a float is not finite');
    return value;
  }

  private list(length: number, depth: number): unknown[] {
    this.enter(depth);
    const items: unknown[] = [];
    for (let i = 0; i < length; i++) items.push(this.term(depth + 1));
    return items;
  }

  private properList(length: number, depth: number): unknown[] {
    const items = this.list(length, depth);
    if (this.byte() !== NIL_EXT) throw this.refusal('a list is improper: its tail is not the empty list');
    return items;
  }

  private stringOfIntegers(length: number, depth: number): number[] {
    this.enter(depth);
    const start = this.take(length);
    this.count(length);
    return Array.from(this.bytes.subarray(start, this.at));
  }

  private map(length: number, depth: number): Record<string, unknown> {
    this.enter(depth);
    const map: Record<string, unknown> = {};
    for (let i = 0; i < length; i++) {
      const key = this.key();
      const value = this.term(depth + 1);
      if (key === '__proto__')
        Object.defineProperty(map, key, { value, writable: true, enumerable: true, configurable: true });
      else map[key] = value;
    }
    if (Object.keys(map).length !== length) throw this.refusal('a map has two keys of the same text');
    return map;
  }

  private key(): string {
    const tag = this.byte();
    this.count(1);
    switch (tag) {
      case BINARY_EXT:
        return this.knownUtf8(this.uint32());
      case SMALL_ATOM_UTF8_EXT:
      case ATOM_UTF8_EXT:
      case SMALL_ATOM_EXT:
      case ATOM_EXT:
        return this.atom(tag);
      default:
        throw this.refusal('a key of a map is neither an atom nor a binary');
    }
  }

  private enter(depth: number): void {
    if (depth >= this.limits.depth)
      throw this.refusal(`the term is nested more than ${this.limits.depth} deep`);
  }

  private count(terms: number): void {
    this.elements += terms;
    if (this.elements > this.limits.elements)
      throw this.refusal(`the term has more than ${this.limits.elements} elements`);
  }

  private byte(): number {
    const byte = this.bytes[this.at];
    if (byte === undefined) throw this.refusal('the term is cut short');
    this.at += 1;
    return byte;
  }

  private uint16(): number {
    return this.bytes.readUInt16BE(this.take(2));
  }

  private uint32(): number {
    return this.bytes.readUInt32BE(this.take(4));
  }

  /** Advances by this many bytes. @returns where they start */
  private take(length: number): number {
    const start = this.at;
    if (length > this.bytes.length - start) throw this.refusal('the term is cut short');
    this.at = start + length;
    return start;
  }

  private refusal(reason: string): DecodeError {
    return new DecodeError(`${reason} (before byte ${this.at})`);
  }
}

/** The value of an atom: null, true or false for `nil`, `true` and `false`, else its text. */
function atomValue(text: string): string | boolean | null {
  switch (text) {
    case 'nil':
      return null;
    case 'true':
      return true;
    case 'false':
      return false;
    default:
      return text;
  }
}
