import { ActionError, type FleetTransport } from '../../src/plugin.js';
import type { ClusterState } from '../../src/sandbox/cluster.js';
import type { LeapingClock } from '../support/leaping-clock.js';

type Transport = Pick<
  FleetTransport,
  'machines' | 'incompleteness' | 'unit' | 'unitStates' | 'setDesiredState'
>;

/** How an order fails although its host is not frozen: its answer is lost, the order itself is, or a proxy answers. */
export type OrderFault = 'answer lost' | 'order lost' | 'redirected' | undefined;

/** An order that fleet has carried out. */
export interface Applied {
  state: string;
  at: number;
}

const AVOIDED_MS = 30_000;

/** The fleet API of a simulated cluster without HTTP: hosts that freeze, and carry out later what they got meanwhile. */
export class ManyHosts implements Transport {
  readonly applied: Applied[] = [];
  /** How many orders were sent. */
  orders = 0;
  readonly #cluster: ClusterState;
  readonly #clock: LeapingClock;
  readonly #machines: number;
  readonly #faultOf: () => OrderFault;
  readonly #hosts = Array.from({ length: 3 }, (_, index) => ({
    name: `10.0.0.${index + 1}:7002`,
    freezes: 0,
    avoidedUntil: 0,
    held: [] as (() => void)[],
  }));

  constructor(cluster: ClusterState, clock: LeapingClock, faultOf: () => OrderFault) {
    this.#cluster = cluster;
    this.#clock = clock;
    this.#machines = cluster.machines.length;
    this.#faultOf = faultOf;
  }

  /** Freezes one host, or all. @returns a function that lets them go on */
  freeze(which: number | 'all'): () => void {
    const hosts = this.#hosts.filter((_, index) => which === 'all' || which === index);
    for (const host of hosts) host.freezes++;
    return () => {
      for (const host of hosts) if (--host.freezes === 0) for (const goOn of host.held.splice(0)) goOn();
    };
  }

  async machines() {
    return this.#read(() => this.#cluster.machines);
  }

  async incompleteness() {
    if (this.#cluster.etcdIsAway) return undefined;
    return this.#cluster.machines.length < this.#machines ? 'A machine is missing' : undefined;
  }

  async unit(_cluster: unknown, name: string, { signal }: { signal: AbortSignal }) {
    while (this.#hosts.every(({ freezes }) => freezes > 0)) {
      await this.#clock.sleep(250);
      signal.throwIfAborted();
    }
    const unit = this.#read(() => this.#cluster.unit(name));
    return unit === 'poisoned' ? undefined : unit;
  }

  async unitStates() {
    return this.#read(() => this.#cluster.states());
  }

  async setDesiredState(
    _cluster: unknown,
    name: string,
    state: 'loaded' | 'launched' | 'inactive',
    { signal }: { signal: AbortSignal },
  ): Promise<void> {
    this.orders++;
    const now = this.#clock.now();
    const [host] = this.#hosts.toSorted(
      (a, b) => Math.max(a.avoidedUntil, now) - Math.max(b.avoidedUntil, now),
    );
    if (host === undefined) return;
    const apply = () => {
      if (this.#cluster.etcdIsAway) return false;
      this.#cluster.setUnit(name, { desiredState: state });
      this.applied.push({ state, at: this.#clock.now() });
      return true;
    };
    const unknown = (pending: string[]) => {
      host.avoidedUntil = this.#clock.now() + AVOIDED_MS;
      return new ActionError('outcome_unknown', `${host.name} failed`, {
        details: { mayChangeLater: pending },
      });
    };
    if (host.freezes > 0) {
      const answers: boolean[] = [];
      host.held.push(() => answers.push(apply()));
      while (answers.length === 0 && !signal.aborted) await this.#clock.sleep(250);
      if (answers.length === 0) throw unknown([host.name]);
      if (answers[0] === false) throw unknown([]);
      return;
    }
    const fault = this.#faultOf();
    if (fault !== 'order lost' && !apply()) throw unknown([]);
    if (fault === 'redirected') throw new ActionError('cluster_answer_invalid', 'HTTP 302');
    if (fault !== undefined) throw unknown([host.name]);
  }

  #read<T>(value: () => T): T {
    if (this.#cluster.etcdIsAway) throw new ActionError('cluster_unhealthy', 'HTTP 503');
    return value();
  }
}
