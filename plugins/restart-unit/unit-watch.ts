import {
  ActionError,
  type Clock,
  type Cluster,
  type FleetTransport,
  type RequestLog,
  type Unit,
  type UnitReadOptions,
  withTimeLimit,
} from '../../src/plugin.js';
import { InformedHosts } from './informed-hosts.js';
import type { Observation } from './observation.js';

/** The time limit for one call; a retry then uses another host of the cluster. */
export const CALL_MS = 3_000;
/** How long to wait between two calls, in milliseconds. */
export const POLL_MS = 500;
/** A failed call or two do not matter; a longer time in which fleet could not be asked does. In milliseconds. */
export const UNREACHABLE_MS = 1_500;

export interface WatchParts {
  fleet: FleetTransport;
  clock: Clock;
  cluster: Cluster;
  log: RequestLog;
}

/**
 * Asks fleet about a unit, each time within `CALL_MS`, and counts the time in which fleet could not be asked: from one
 * answer to the next when a call failed between them. That time is evidence of nothing.
 */
export class UnitWatch {
  readonly #name: string;
  readonly #parts: WatchParts;
  /** The latest observation. */
  last: Observation;
  /** Whose answers are evidence. */
  readonly informed: InformedHosts;
  #answeredAt: number;
  /** When the present time without a failure began. */
  #reachableSince: number;
  #failed = false;
  #unreachableMs = 0;

  constructor(name: string, before: Observation, parts: WatchParts) {
    this.#name = name;
    this.#parts = parts;
    this.last = before;
    this.informed = new InformedHosts(before.unit.desiredState);
    this.#answeredAt = parts.clock.now();
    this.#reachableSince = this.#answeredAt;
  }

  /** How long fleet could not be asked, in milliseconds, since the watch began. */
  get unreachableMs(): number {
    const { clock } = this.#parts;
    return this.#unreachableMs + (this.#failed ? clock.now() - this.#answeredAt : 0);
  }

  /** How long fleet has been answering without a failure; 0 while it does not answer. */
  get reachableMs(): number {
    return this.#failed ? 0 : this.#parts.clock.now() - this.#reachableSince;
  }

  /** `; fleet could not be asked for 20.1 s`, or nothing when it could be asked. */
  get unreachableNote(): string {
    return this.wasUnreachable ? `; fleet could not be asked for ${seconds(this.unreachableMs)}` : '';
  }

  get wasUnreachable(): boolean {
    return this.unreachableMs >= UNREACHABLE_MS;
  }

  /** Sets the desired state. From then on only hosts that have that order are believed. */
  async order(state: 'loaded' | 'launched'): Promise<void> {
    const { fleet, cluster } = this.#parts;
    this.informed.ordered(state);
    const confirmedBy = (host: string) => this.informed.confirmedBy(host);
    await this.ask(async (options) =>
      fleet.setDesiredState(cluster, this.#name, state, { ...options, confirmedBy }),
    );
  }

  /** Whether every host that answers, and at least one, shows this desired state. */
  async allShow(state: string | null): Promise<boolean> {
    const { fleet, cluster } = this.#parts;
    const shown: (string | null)[] = [];
    const accepts = (unit: Unit | undefined) => {
      shown.push(unit?.desiredState ?? null);
      return false;
    };
    const ended = this.ask(async (options) => fleet.unit(cluster, this.#name, { ...options, accepts }));
    // None is accepted, so that all are asked.
    await ended.catch((error: unknown) =>
      this.#parts.log.debug('unit state not available', { reason: failureText(error) }),
    );
    return shown.length > 0 && shown.every((each) => each === state);
  }

  /** Runs a call to fleet, which it counts. */
  async ask<T>(call: (options: { signal: AbortSignal }) => Promise<T>): Promise<T> {
    const { clock } = this.#parts;
    const limit = { ms: CALL_MS, message: `fleet did not respond within ${seconds(CALL_MS)}`, clock };
    try {
      const answer = await withTimeLimit(limit, async (signal) => call({ signal }));
      this.#answered();
      return answer;
    } catch (error) {
      if (error instanceof ActionError && ANSWERS.has(error.code)) this.#answered();
      else this.#failed = true;
      throw error;
    }
  }

  /**
   * @param withMachines whether to ask for the list of machines too
   * @returns `removed` when fleet has no such unit any more; undefined when fleet could not be asked
   */
  async look({
    withMachines = false,
  } = {}): Promise<{ seen: Observation; listed: ReadonlySet<string> | undefined } | 'removed' | undefined> {
    const { fleet, cluster, log } = this.#parts;
    try {
      const look = await this.ask(async (options) => {
        const { seen, host } = await observe(this.#name, fleet, cluster, {
          ...options,
          accepts: (unit, each) => this.informed.shows(each, unit?.desiredState ?? null),
        });
        if (seen === undefined) return 'removed';
        const machines = withMachines && (await fleet.machines(cluster, { ...options, from: host }));
        return { seen, listed: machines ? new Set(machines.map(({ id }) => id)) : undefined };
      });
      if (look !== 'removed') this.last = look.seen;
      return look;
    } catch (error) {
      log.debug('unit state not available', { reason: failureText(error) });
      return undefined;
    }
  }

  #answered(): void {
    const now = this.#parts.clock.now();
    if (this.#failed) {
      this.#unreachableMs += now - this.#answeredAt;
      this.#reachableSince = now;
    }
    this.#failed = false;
    this.#answeredAt = now;
  }
}

/** Errors that are an answer of fleet. */
const ANSWERS: ReadonlySet<string> = new Set(['unit_not_found', 'cluster_refused']);

/**
 * Reads the unit and its rows from the same host.
 * @param accepts whether to believe what a host shows; each one by default
 * @returns `seen` undefined when the cluster has no such unit
 */
export async function observe(
  name: string,
  fleet: FleetTransport,
  cluster: Cluster,
  { signal, accepts = () => true }: UnitReadOptions,
): Promise<{ seen: Observation | undefined; host: string | undefined }> {
  let from: string | undefined;
  const unit = await fleet.unit(cluster, name, {
    signal,
    accepts: (each, host) => {
      const isAccepted = accepts(each, host);
      if (isAccepted) from = host;
      return isAccepted;
    },
  });
  const rows = unit && (await fleet.unitStates(cluster, { unitName: name, signal, from }));
  return { seen: unit && rows && { unit, rows }, host: from };
}

export function failureText(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

export function seconds(ms: number): string {
  return `${(ms / 1_000).toFixed(1)} s`;
}
