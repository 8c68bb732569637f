import { Codecs } from './codecs.js';
import { ErlangCodec } from './erlang.js';
import { jsonRequestCodec } from './json.js';

/** The encodings in which requests come. @param maxMessageBytes the largest request, also when it is inflated */
export function requestCodecs(maxMessageBytes: number): Codecs {
  return new Codecs([jsonRequestCodec, new ErlangCodec({ inflatedBytes: maxMessageBytes })]);
}
