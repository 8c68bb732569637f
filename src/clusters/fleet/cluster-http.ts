import { type Cluster, noteResponse } from '../../api/cluster.js';
import type { Clock } from '../../lib/clock.js';
import type { HttpClient, HttpResponse } from '../../network/http-client.js';
import { effectOf } from './change-effect.js';
import { ANSWERED_ELSEWHERE, hedged } from './hedged.js';
import { type Refusal, refusalIn, shown, UnusableResponse } from './fleet-answer.js';
import type { Reading } from './fleet-responses.js';
import { HostFailures } from './host-failures.js';
import { HostHealth } from './host-health.js';
import { HedgeBudget } from './hedge-budget.js';
import { OwnTurns } from '../../lib/own-turns.js';
import { remember } from '../../lib/remember.js';

/** fleet answers 503 after up to 18 s without etcd; a page of a large cluster may take several seconds. */
const TIMEOUT_MS = 20_000;
/** Cluster members are not trusted, so response sizes are limited. A page of 100 units has about 100 KB. */
const MAX_RESPONSE_BYTES = 4 * 1024 * 1024;
const MAX_REMEMBERED = 1_000;
/** From this size on, in bytes, responses that arrive together are read in several turns of the event loop. */
const LARGE_RESPONSE = 16_384;

/** A call of fleet's HTTP API. */
interface FleetCall {
  /** Below `/fleet/v1/`. */
  path: string;
  query?: Record<string, string | undefined>;
  signal: AbortSignal;
}

interface FleetGet<T> extends FleetCall {
  /**
   * Reads a response with status 200.
   * @throws UnusableResponse when it is not one of fleet: then another host is asked
   */
  read: (response: HttpResponse) => Reading<T>;
  /**
   * The status with which fleet may refuse this call. 404: there is no such thing. 400: the host does not know this page
   * of a list; another one may.
   */
  refusedWith?: 400 | 404;
}

export interface FleetRead<T> extends FleetGet<T> {
  /** How long to wait for a host, in milliseconds, before another one is asked too. */
  hedgeMs: number;
  /** Called with each answer; with false the answer is not used, and another host is asked. */
  accepts?: (answer: FleetAnswer<T>, host: string) => boolean;
}

export interface FleetChange extends FleetCall {
  method: 'PUT' | 'DELETE';
  /** JSON. */
  body?: string;
  /** Called with the host that has made the change. */
  onDone?: (host: string) => void;
}

/** How a host answered a read. */
export type FleetAnswer<T> =
  | { refusal: Refusal }
  | (Reading<T> & {
      refusal: undefined;
      /** The host that answered. */
      host: string;
      /** How long it took, in milliseconds. */
      tookMs: number;
    });

/** The abort reason of a read whose result is not needed any more: it says nothing about the host. */
export const NOT_NEEDED = new Error('the response is not needed any more');

/** Calls the fleet API of a cluster on whichever of its hosts responds as fleet does. */
export class ClusterHttp {
  readonly #http: HttpClient;
  readonly #clock: Clock;
  readonly #health: HostHealth;
  readonly #turns = new OwnTurns();
  /** By cluster. */
  readonly #hedges = new Map<string, HedgeBudget>();

  constructor(http: HttpClient, clock: Clock) {
    this.#http = http;
    this.#clock = clock;
    this.#health = new HostHealth(clock);
  }

  /**
   * Reads from the host that first gives an answer of fleet. A host that takes long costs only `hedgeMs`, or twice that
   * after an answer that another host may give better.
   * @throws ActionError `cluster_unreachable`, `cluster_unhealthy`, `cluster_answer_invalid`, `forbidden`
   */
  async read<T>(cluster: Cluster, hosts: readonly URL[], call: FleetRead<T>): Promise<FleetAnswer<T>> {
    const failures = new HostFailures();
    const hedges = this.#hedgesOf(cluster);
    hedges.called();
    const begun = this.#clock.now();
    const answers = await hedged({
      hosts: this.#health.inOrder(cluster, hosts),
      // When another call has found the host slow meanwhile, it is the host, not the cluster.
      mayHedge: (slow) => this.#health.hasFailedSince(slow, begun) || hedges.take(),
      ask: async (host, signal) => {
        const answer = await this.#readFrom(cluster, host, { ...call, signal }, failures);
        if (answer === undefined || call.accepts?.(answer, host.host) !== false) return answer;
        failures.add(host, new UnusableResponse('invalid', 'its answer is not known to be new enough'));
        return undefined;
      },
      hedgeMs: call.hedgeMs,
      clock: this.#clock,
      signal: call.signal,
      onSlower: (host) => this.#health.failed(host),
      isSure,
    });
    const answer = answers.find(({ refusal }) => refusal === undefined) ?? answers[0];
    if (answer !== undefined) return answer;
    throw failures.noUsableResponse();
  }

  /**
   * Finds a host that responds, for a change: a change cannot be hedged. Asks nothing when the host to which a change
   * would go has responded a moment ago.
   * @throws ActionError as `read`
   */
  async findResponding(cluster: Cluster, hosts: readonly URL[], call: FleetRead<unknown>): Promise<void> {
    const [first] = this.#health.inOrder(cluster, hosts);
    if (first !== undefined && this.#health.hasJustResponded(cluster, first)) return;
    await this.read(cluster, hosts, call);
  }

  /**
   * Sends a change to one host. Another one gets it only when it is certain that the previous one has not made it, or
   * when that one has a response of success that is not fleet's: then a PUT is repeated, which is idempotent.
   * @returns fleet's refusal, with which nothing was done
   * @throws ActionError as `read`: nothing was done
   * @throws ActionError `outcome_unknown`, with the hosts that may have made the change, or may make it later
   */
  async change(cluster: Cluster, hosts: readonly URL[], call: FleetChange): Promise<Refusal | undefined> {
    const failures = new HostFailures();
    for (const host of this.#health.inOrder(cluster, hosts)) {
      if (call.signal.aborted) break;
      let status: number | undefined;
      try {
        const response = await this.#send(call.method, host, call);
        noteResponse(cluster);
        status = response.status;
        const refusal = refusalIn(response, isDone);
        this.#health.responded(cluster, host);
        if (refusal === undefined) call.onDone?.(host.host);
        if (refusal === undefined || !failures.mayBeDone) return refusal;
        failures.add(host, new UnusableResponse('invalid', `HTTP ${status} ${refusal.message}`));
        break;
      } catch (error) {
        this.#health.failed(host);
        failures.add(host, error, call.signal);
        const effect = effectOf(error, status);
        if (effect === 'none') continue;
        failures.mayHaveChanged(host, { later: effect !== 'perhaps' });
        if (effect !== 'claimed' || call.method !== 'PUT') break;
      }
    }
    if (failures.mayBeDone) throw failures.outcomeUnknown();
    call.signal.throwIfAborted();
    throw failures.noUsableResponse();
  }

  /** Why a host does not answer a read; undefined when it does. */
  async problemOf<T>(host: URL, call: FleetGet<T> & { timeoutMs: number }): Promise<string | undefined> {
    try {
      await this.#get(host, call, call.timeoutMs);
      return undefined;
    } catch (error) {
      this.#health.failed(host);
      return new HostFailures().add(host, error);
    }
  }

  /** @returns undefined when the response is not usable */
  async #readFrom<T>(
    cluster: Cluster,
    host: URL,
    call: FleetGet<T>,
    failures: HostFailures,
  ): Promise<FleetAnswer<T> | undefined> {
    try {
      const answer = await this.#get(host, call, TIMEOUT_MS, () => noteResponse(cluster));
      this.#health.responded(cluster, host);
      return answer;
    } catch (error) {
      if (error === NOT_NEEDED || error === ANSWERED_ELSEWHERE) throw error;
      // Also after an abort: the next attempt must not wait for the same silent host.
      this.#health.failed(host);
      failures.add(host, error);
      return undefined;
    }
  }

  /** @throws UnusableResponse, HttpFailure, ActionError `forbidden`, or the signal's reason */
  async #get<T>(
    host: URL,
    call: FleetGet<T>,
    timeoutMs: number,
    onResponse: () => void = () => {},
  ): Promise<FleetAnswer<T>> {
    const begun = this.#clock.now();
    const response = await this.#send('GET', host, call, timeoutMs);
    onResponse();
    const refusal = refusalIn(response, ({ status }) => status === 200);
    if (refusal !== undefined && refusal.status !== call.refusedWith)
      throw new UnusableResponse('invalid', `${shown(response)} ${refusal.message}`.trim());
    if (refusal !== undefined) return { refusal };
    try {
      const tookMs = this.#clock.now() - begun;
      if (response.body.length >= LARGE_RESPONSE) await this.#turns.next();
      return { refusal, host: host.host, tookMs, ...call.read(response) };
    } catch (error) {
      if (!(error instanceof UnusableResponse)) throw error;
      throw new UnusableResponse(error.kind, `${shown(response)}: ${error.message}`);
    }
  }

  #hedgesOf(cluster: Cluster): HedgeBudget {
    const known = this.#hedges.get(cluster.key) ?? new HedgeBudget();
    remember(this.#hedges, cluster.key, known, MAX_REMEMBERED);
    return known;
  }

  async #send(
    method: 'GET' | 'PUT' | 'DELETE',
    host: URL,
    call: FleetCall & { body?: string },
    timeoutMs = TIMEOUT_MS,
  ): Promise<HttpResponse> {
    return this.#http.call(method, urlOf(host, call), {
      operation: call.path.startsWith('units/') ? 'units/{name}' : call.path,
      body: call.body,
      signal: call.signal,
      timeoutMs,
      maxResponseBytes: MAX_RESPONSE_BYTES,
    });
  }
}

/** One host may be wrong. When a second one answers with flaws too, they are in the cluster's data. */
function isSure<T>(answer: FleetAnswer<T>): boolean {
  return answer.refusal === undefined ? answer.flaws.length === 0 : answer.refusal.status !== 400;
}

/** fleet has made a change; it created a unit with 201. */
function isDone({ status, text }: HttpResponse): boolean {
  return (status === 201 || status === 204) && text.trim() === '';
}

function urlOf(host: URL, { path, query = {} }: FleetCall): URL {
  const url = new URL(`${host.href.replace(/\/+$/, '')}/fleet/v1/${path}`);
  for (const [key, value] of Object.entries(query)) if (value !== undefined) url.searchParams.set(key, value);
  return url;
}
