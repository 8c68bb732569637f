import { atom, atomKeys } from '../rpc/codec/erlang-atom.js';
import { encodeTerm } from '../rpc/codec/erlang-encode.js';
import type { ManagerId } from './manager-responses.js';

/** The `request_body` of a request. */
export interface RequestBody {
  action: string;
  etcd_token?: string;
  action_parameters?: Readonly<Record<string, unknown>> | null;
}

/**
 * A request as OpenAperture's callers send it: the Erlang term of their struct RpcRequest, in which every key and every
 * enumerated value is an atom.
 * @param id of the request's record; OpenAperture's own callers send it as text, numbers are accepted too
 * @throws RangeError, TypeError when a value cannot be encoded as a term
 */
export function requestTerm(id: ManagerId | string, body: RequestBody): Buffer {
  const { action, action_parameters: parameters = null, ...more } = body;
  return encodeTerm(
    atomKeys({
      queue_name: '',
      id,
      status: atom('not_started'),
      request_body: atomKeys({
        ...more,
        action: atom(action),
        action_parameters: parameters === null ? null : atomKeys(parameters),
      }),
      response_body: null,
    }),
  );
}
