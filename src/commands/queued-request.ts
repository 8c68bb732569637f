import { reasonOf } from '../lib/errors.js';
import { systemClock } from '../lib/clock.js';
import type { Logger } from '../lib/logger.js';
import { DecodeError } from '../rpc/codec/codec.js';
import { requestCodecs } from '../rpc/codec/request-codecs.js';
import { InvalidMessage, readEnvelope } from '../rpc/envelope.js';
import { RequestReader } from '../rpc/request.js';
import type { Configuration } from '../settings/settings.js';
import type { ErrorMessage } from './error-queue.js';
import { tokenIn } from './hidden-secrets.js';

/** What a message in the error queue asks for, as far as it can be read. */
export interface QueuedRequest {
  /** `json` or `erlang`; undefined: the body cannot be decoded. */
  encoding: string | undefined;
  /** The decoded body. */
  decoded: unknown;
  /** Undefined: it names none. */
  action: string | undefined;
  etcdToken: unknown;
  /** Whether somebody can get its reply: it names a `reply_to`, or a record of the Manager. */
  wantsReply: boolean;
  /** Why the service would dead-letter it again; undefined: it is a valid request. */
  problem: string | undefined;
}

const SILENT: Logger = { debug() {}, info() {}, warn() {}, error() {} };

/** Reads messages as the service does, with the same settings. */
export function requestReader({
  queue,
  maxMessageBytes,
}: Pick<Configuration['rpc'], 'queue' | 'maxMessageBytes'>): (message: ErrorMessage) => QueuedRequest {
  const codecs = requestCodecs(maxMessageBytes);
  const reader = new RequestReader({
    queue,
    codecs,
    channels: [],
    maxMessageBytes,
    clock: systemClock,
    logFor: () => SILENT,
  });
  return (message) => {
    const request: QueuedRequest = {
      encoding: undefined,
      decoded: undefined,
      action: undefined,
      etcdToken: undefined,
      wantsReply: typeof message.properties.replyTo === 'string' && message.properties.replyTo !== '',
      problem: undefined,
    };
    try {
      const codec = reader.codecOf(message);
      request.decoded = codec.decode(message.content);
      request.encoding = codec.name;
      request.etcdToken = tokenIn(request.decoded);
      const { action, recordId } = readEnvelope(request.decoded);
      request.wantsReply ||= recordId !== undefined;
      request.action = typeof action === 'string' ? action : undefined;
    } catch (error) {
      if (!(error instanceof DecodeError) && !(error instanceof InvalidMessage)) throw error;
      request.problem = reasonOf(error);
      if (error instanceof InvalidMessage && typeof error.envelope.action === 'string')
        request.action = error.envelope.action;
    }
    return request;
  };
}
