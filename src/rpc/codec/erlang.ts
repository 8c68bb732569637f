import type { RowList } from '../../api/row-list.js';
import type { Codec } from './codec.js';
import { TermReader } from './erlang-decode.js';
import { EncodedRows } from './encoded-rows.js';
import { encodeEnvelope, encodeItems, listHeader } from './erlang-encode.js';
import { inflatedSize } from './erlang-inflate.js';
import { StringCache } from './erlang-string-cache.js';
import { type ErlangLimits, erlangLimits } from './erlang-limits.js';
import { VERSION } from './erlang-tags.js';

/**
 * Erlang's external term format, as Elixir and Erlang programs of OTP 17 to 27 send it (`term_to_binary`), plain or
 * compressed: https://www.erlang.org/doc/apps/erts/erl_ext_dist.html.
 *
 * Decoding: atoms and UTF-8 binaries become strings; the atoms `nil`, `true`, `false` become null, true, false, except
 * as keys of maps; lists, tuples and strings of integers become arrays; maps become objects; integers beyond 2^53
 * become bigint. Refused with a reason: terms local to one node (process ids, ports, references, functions), bit
 * strings, improper lists, binaries that are not UTF-8, floats that are not finite, keys that are not text, two keys
 * with the same text, bytes after the term, and everything beyond a limit. The size of the body must be limited before
 * decoding.
 *
 * `encode` writes envelopes, see `encodeEnvelope`; it supports `atom` and `atomKeys` at every level.
 */
export class ErlangCodec implements Codec {
  readonly name = 'erlang';
  readonly contentType = 'application/x-erlang-binary';
  private readonly limits: Readonly<ErlangLimits>;
  private readonly known = new StringCache();

  /** Omitted limits have the defaults of `erlangLimits`. */
  constructor(limits: Partial<ErlangLimits> = {}) {
    this.limits = erlangLimits(limits);
  }

  recognises(body: Uint8Array): boolean {
    return body[0] === VERSION;
  }

  plainSize(body: Uint8Array): number {
    return inflatedSize(body) ?? body.length;
  }

  decode(body: Uint8Array): unknown {
    return new TermReader(body, this.limits, this.known).read();
  }

  encode(envelope: unknown): Buffer {
    return encodeEnvelope(envelope, this.limits);
  }

  async encodeRows(list: RowList<unknown>): Promise<EncodedRows> {
    const pieces: Buffer[] = [];
    for await (const rows of list.partsOfRows()) pieces.push(encodeItems(rows, this.limits));
    return new EncodedRows(list, pieces);
  }

  encodeAround(map: Record<string, unknown>, rows: EncodedRows): Buffer[] {
    const whole = encodeEnvelope(map, this.limits);
    if (rows.length === 0) return [whole];
    // The end of a list is the empty list.
    return [whole.subarray(0, -1), listHeader(rows.length), ...rows.pieces, whole.subarray(-1)];
  }
}
