import { Agent } from 'undici';
import { type BoundedAnswer, boundedCall, CONNECT_TIMEOUT_MS } from '../network/bounded-call.js';

/** Many answers may wait for the Manager at once; they are not all to reach it in the same moment. */
const CONNECTIONS = 32;

export interface JsonRequest {
  method: 'GET' | 'PUT' | 'POST' | 'DELETE';
  url: URL;
  /** The value of the header `Authorization`. */
  authorization?: string;
  /** JSON. */
  body?: string;
  /**
   * Whether to make a connection for this call alone. One that was kept may have been closed by the server in this very
   * moment, and then nobody knows whether the call has arrived.
   */
  ownConnection?: boolean;
  signal: AbortSignal;
  timeoutMs: number;
}

export type JsonResponse = BoundedAnswer;

/** HTTP calls with the headers that the Manager's callers have always sent. */
export class JsonHttp {
  readonly #keeping = agent({ pipelining: 1 });
  /** Without pipelining, undici keeps no connection open. */
  readonly #closing = agent({ pipelining: 0 });

  /**
   * @throws HttpFailure
   * @throws the signal's reason when that is aborted
   */
  async call(request: JsonRequest): Promise<JsonResponse> {
    const { authorization, ownConnection = false, ...call } = request;
    const headers = {
      accept: 'application/json',
      'content-type': 'application/json',
      ...(authorization !== undefined && { authorization }),
    };
    return boundedCall({ ...call, headers, dispatcher: ownConnection ? this.#closing : this.#keeping });
  }

  /** Cuts what is under way. */
  async close(): Promise<void> {
    await Promise.all([this.#keeping.destroy(), this.#closing.destroy()]);
  }
}

function agent({ pipelining }: { pipelining: number }): Agent {
  return new Agent({ connect: { timeout: CONNECT_TIMEOUT_MS }, connections: CONNECTIONS, pipelining });
}
