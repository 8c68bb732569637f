import {
  ActionError,
  type FleetTransport,
  type ListOptions,
  type Machine,
  type Unit,
  type UnitReadOptions,
  type UnitState,
} from '../../src/plugin.js';
import type { ChangeOptions } from '../../src/api/fleet-transport.js';
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

/** What a host shows. */
interface Shown {
  machines: Machine[];
  unit: Unit | undefined;
  states: UnitState[];
}

interface Host {
  name: string;
  freezes: number;
  avoidedUntil: number;
  held: (() => void)[];
  /** What it shows while its etcd member is cut off. */
  old: Shown | undefined;
}

/**
 * The fleet API of a simulated cluster without HTTP: hosts that freeze, and carry out later what they got meanwhile, and hosts
 * that show an old state, because their etcd member is cut off.
 */
export class ManyHosts implements Transport {
  readonly applied: Applied[] = [];
  /** How many orders were sent. */
  orders = 0;
  readonly #cluster: ClusterState;
  readonly #clock: LeapingClock;
  readonly #machines: number;
  readonly #faultOf: () => OrderFault;
  readonly #unitName: string;
  readonly #hosts: Host[] = Array.from({ length: 3 }, (_, index) => ({
    name: `10.0.0.${index + 1}:7002`,
    freezes: 0,
    avoidedUntil: 0,
    held: [],
    old: undefined,
  }));
  #reads = 0;

  constructor(
    cluster: ClusterState,
    clock: LeapingClock,
    { unitName, faultOf }: { unitName: string; faultOf: () => OrderFault },
  ) {
    this.#cluster = cluster;
    this.#clock = clock;
    this.#machines = cluster.machines.length;
    this.#unitName = unitName;
    this.#faultOf = faultOf;
  }

  /** Cuts off the etcd member of one host. @returns a function that ends it */
  cutOff(index: number): () => void {
    const [host] = this.#hosts.slice(index);
    if (host === undefined || host.old !== undefined || this.#cluster.etcdIsAway) return () => {};
    host.old = this.#now();
    return () => (host.old = undefined);
  }

  /** Freezes one host, or all. @returns a function that lets them go on */
  freeze(which: number | 'all'): () => void {
    const hosts = this.#hosts.filter((_, index) => which === 'all' || which === index);
    for (const host of hosts) host.freezes++;
    return () => {
      for (const host of hosts) if (--host.freezes === 0) for (const goOn of host.held.splice(0)) goOn();
    };
  }

  async machines(_cluster: unknown, options: ListOptions) {
    return (await this.#readFrom(options)).machines;
  }

  async incompleteness() {
    if (this.#cluster.etcdIsAway) return undefined;
    return this.#cluster.machines.length < this.#machines ? 'A machine is missing' : undefined;
  }

  async unit(_cluster: unknown, _name: string, { signal, accepts }: UnitReadOptions) {
    const first = this.#reads++ % this.#hosts.length;
    const inTurn = [...this.#hosts.slice(first), ...this.#hosts.slice(0, first)];
    for (;;) {
      const goesOn = inTurn.filter(({ freezes }) => freezes === 0);
      for (const host of goesOn) {
        const { unit } = this.#shownBy(host);
        if (accepts?.(unit, host.name) !== false) return unit;
      }
      if (goesOn.length === inTurn.length) throw new ActionError('cluster_answer_invalid', 'too old');
      await this.#clock.sleep(250);
      signal.throwIfAborted();
    }
  }

  async unitStates(_cluster: unknown, options: ListOptions) {
    return (await this.#readFrom(options)).states;
  }

  async setDesiredState(
    _cluster: unknown,
    name: string,
    state: 'loaded' | 'launched' | 'inactive',
    { signal, confirmedBy }: ChangeOptions,
  ): Promise<void> {
    this.orders++;
    const now = this.#clock.now();
    const [host] = this.#hosts.toSorted(
      (a, b) => Math.max(a.avoidedUntil, now) - Math.max(b.avoidedUntil, now),
    );
    if (host === undefined) return;
    const apply = () => {
      if (this.#cluster.etcdIsAway || host.old !== undefined) return false;
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
      confirmedBy?.(host.name);
      return;
    }
    const fault = this.#faultOf();
    if (fault !== 'order lost' && !apply()) throw unknown([]);
    if (fault === 'redirected') throw new ActionError('cluster_answer_invalid', 'HTTP 302');
    if (fault !== undefined) throw unknown([host.name]);
    confirmedBy?.(host.name);
  }

  async #readFrom({ from, signal }: ListOptions): Promise<Shown> {
    const hosts = this.#hosts.filter(({ name }) => from === undefined || name === from);
    for (;;) {
      const host = hosts.find(({ freezes }) => freezes === 0);
      if (host !== undefined) return this.#shownBy(host);
      await this.#clock.sleep(250);
      signal.throwIfAborted();
    }
  }

  #shownBy({ old }: Host): Shown {
    if (old !== undefined) return structuredClone(old);
    if (this.#cluster.etcdIsAway) throw new ActionError('cluster_unhealthy', 'HTTP 503');
    return this.#now();
  }

  #now(): Shown {
    const unit = this.#cluster.unit(this.#unitName);
    return {
      machines: this.#cluster.machines,
      unit: unit === 'poisoned' ? undefined : unit,
      states: this.#cluster.states(),
    };
  }
}
