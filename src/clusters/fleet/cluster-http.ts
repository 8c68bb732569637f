import { ActionError } from '../../api/action-error.js';
import { type Cluster, noteResponse } from '../../api/cluster.js';
import type { Clock } from '../../lib/clock.js';
import { HttpFailure } from '../../network/bounded-call.js';
import type { HttpClient, HttpResponse } from '../../network/http-client.js';
import { ANSWERED_ELSEWHERE, hedged } from './hedged.js';
import { errorMessageOf, invalidFleetResponse } from './fleet-responses.js';
import { HostHealth } from './host-health.js';

/** fleet answers 503 after up to 18 s without etcd; a page of a large cluster may take several seconds. */
const TIMEOUT_MS = 20_000;
/** Cluster members are not trusted, so response sizes are limited. A page of 100 units has about 100 KB. */
const MAX_RESPONSE_BYTES = 4 * 1024 * 1024;
/** The statuses of fleet's own failures. With another 5xx a proxy reports that fleet has not answered it. */
const FLEET_FAILURES: ReadonlySet<number> = new Set([500, 503]);

/** A call of fleet's HTTP API. */
export interface FleetCall {
  /** Below `/fleet/v1/`. */
  path: string;
  query?: Record<string, string | undefined>;
  signal: AbortSignal;
}

export interface FleetRead extends FleetCall {
  /** How long to wait for a host, in milliseconds, before another one is asked too. */
  hedgeMs: number;
}

export interface FleetChange extends FleetCall {
  method: 'PUT' | 'DELETE';
  /** JSON. */
  body?: string;
}

interface Failure {
  host: string;
  reason: string;
}

/** The abort reason of a read whose result is not needed any more: it says nothing about the host. */
export const NOT_NEEDED = new Error('the response is not needed any more');

/** Calls the fleet API of a cluster on whichever of its hosts responds. */
export class ClusterHttp {
  readonly #http: HttpClient;
  readonly #clock: Clock;
  readonly #health: HostHealth;

  constructor(http: HttpClient, clock: Clock) {
    this.#http = http;
    this.#clock = clock;
    this.#health = new HostHealth(clock);
  }

  /**
   * Reads from the host that responds first with another status than 5xx. A host that takes long costs only `hedgeMs`.
   * @throws ActionError `cluster_unreachable`, `cluster_unhealthy`, `cluster_answer_invalid`, `forbidden`
   */
  async read(cluster: Cluster, hosts: readonly URL[], call: FleetRead): Promise<HttpResponse> {
    const failures = new Failures();
    const response = await hedged({
      hosts: this.#health.inOrder(cluster, hosts),
      ask: (host, signal) => this.#readFrom(cluster, host, { ...call, signal }, failures),
      hedgeMs: call.hedgeMs,
      clock: this.#clock,
      signal: call.signal,
      onSlower: (host) => this.#health.failed(host),
    });
    if (response === undefined) throw failures.noUsableResponse();
    return response;
  }

  /**
   * Sends a change to one host; to another one only when it is certain that the previous one did not receive it.
   * @throws ActionError also `outcome_unknown`
   */
  async change(cluster: Cluster, hosts: readonly URL[], call: FleetChange): Promise<HttpResponse> {
    const failures = new Failures();
    for (const host of this.#health.inOrder(cluster, hosts)) {
      call.signal.throwIfAborted();
      let answered = false;
      try {
        const response = await this.#send(call.method, host, call);
        noteResponse(cluster);
        if (response.status < 500) {
          this.#health.responded(cluster, host);
          return response;
        }
        failures.status(host, response);
        answered = FLEET_FAILURES.has(response.status);
      } catch (error) {
        if (error === call.signal.reason) failures.add(host, 'the call was aborted');
        else failures.error(host, error);
        this.#health.failed(host);
        if (isNotSent(error)) continue;
        throw failures.outcomeUnknown({ answered });
      }
      this.#health.failed(host);
      throw failures.outcomeUnknown({ answered });
    }
    throw failures.noUsableResponse();
  }

  /** Why a host does not answer a read; undefined when it does. */
  async problemOf(host: URL, call: FleetCall & { timeoutMs: number }): Promise<string | undefined> {
    const failures = new Failures();
    try {
      const response = await this.#send('GET', host, call, call.timeoutMs);
      return response.status < 500 ? undefined : failures.status(host, response);
    } catch (error) {
      call.signal.throwIfAborted();
      return failures.error(host, error);
    }
  }

  /** @returns undefined when the response is not usable */
  async #readFrom(
    cluster: Cluster,
    host: URL,
    call: FleetCall,
    failures: Failures,
  ): Promise<HttpResponse | undefined> {
    try {
      const response = await this.#send('GET', host, call);
      noteResponse(cluster);
      // fleet reports its internal failures with 500 and 503; a proxy in front of it uses other 5xx statuses.
      if (response.status < 500) {
        this.#health.responded(cluster, host);
        return response;
      }
      failures.status(host, response);
    } catch (error) {
      if (error === NOT_NEEDED || error === ANSWERED_ELSEWHERE) throw error;
      // Also after an abort: the next attempt must not wait for the same silent host.
      this.#health.failed(host);
      call.signal.throwIfAborted();
      if (error instanceof HttpFailure && error.tooLarge) throw invalidFleetResponse(error.message);
      failures.error(host, error);
      return undefined;
    }
    this.#health.failed(host);
    return undefined;
  }

  async #send(
    method: 'GET' | 'PUT' | 'DELETE',
    host: URL,
    call: FleetCall & { body?: string },
    timeoutMs = TIMEOUT_MS,
  ): Promise<HttpResponse> {
    return this.#http.call(method, urlOf(host, call), {
      body: call.body,
      signal: call.signal,
      timeoutMs,
      maxResponseBytes: MAX_RESPONSE_BYTES,
    });
  }
}

/** Why the hosts that were asked have no usable response. */
class Failures {
  readonly #failures: Failure[] = [];
  #responded = false;
  #forbidden: unknown;

  /** @returns the reason */
  status(host: URL, { status, body }: HttpResponse): string {
    this.#responded = true;
    return this.add(host, `HTTP ${status} ${errorMessageOf(body)}`.trim());
  }

  /**
   * @returns the reason
   * @throws an error that does not come from the host or the network
   */
  error(host: URL, error: unknown): string {
    if (error instanceof HttpFailure) return this.add(host, error.message);
    if (!isForbidden(error)) throw error;
    this.#forbidden = error;
    return this.add(host, 'forbidden');
  }

  /** @param answered whether the last host has ended the change, so that it cannot carry it out later */
  outcomeUnknown({ answered }: { answered: boolean }): ActionError {
    const last = this.#failures.at(-1);
    return new ActionError(
      'outcome_unknown',
      `The fleet API at ${last?.host} failed during the change: ${last?.reason}`,
      { details: { hosts: this.#failures, mayChangeLater: answered ? [] : [last?.host] } },
    );
  }

  noUsableResponse(): unknown {
    const failures = this.#failures;
    if (this.#forbidden !== undefined && failures.every(({ reason }) => reason === 'forbidden'))
      return this.#forbidden;
    const shown = failures.slice(0, 5).map(({ host, reason }) => `${host}: ${reason}`);
    const more = failures.length > shown.length ? `, and ${failures.length - shown.length} more` : '';
    const [code, what] = this.#responded
      ? ['cluster_unhealthy', "The cluster's fleet API reports an internal failure"]
      : ['cluster_unreachable', 'No fleet API of the cluster can be reached'];
    return new ActionError(code, `${what} (${shown.join(', ')}${more})`, {
      details: { hosts: failures.slice(0, 20) },
    });
  }

  /** @returns the reason */
  add({ host }: URL, reason: string): string {
    this.#failures.push({ host, reason });
    return reason;
  }
}

/** Whether it is certain that the host did not receive the request. */
function isNotSent(error: unknown): boolean {
  return isForbidden(error) || (error instanceof HttpFailure && error.notSent);
}

function isForbidden(error: unknown): boolean {
  return error instanceof ActionError && error.code === 'forbidden';
}

function urlOf(host: URL, { path, query = {} }: FleetCall): URL {
  const url = new URL(`${host.href.replace(/\/+$/, '')}/fleet/v1/${path}`);
  for (const [key, value] of Object.entries(query)) if (value !== undefined) url.searchParams.set(key, value);
  return url;
}
