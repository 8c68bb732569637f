import { machinesOf, type Observation, ownRow, rowOn, saysRunning, saysStopped } from './observation.js';

/** fleet shows a change after up to 7 s: what it shows for longer is not from before. In milliseconds. */
export const STALE_MS = 8_000;

/**
 * Collects what proves that a unit has stopped. A missing state row proves nothing: rows expire, also while the unit runs
 * on, when their machine's agent is frozen, killed or cut off, or after etcd was away. For each machine on which the unit
 * may run, there are two proofs:
 * - a row of that machine, for the unit's present file, that says inactive or failed, and is no old one
 * - fleet no longer lists the machine, and has the unit on another one or on none
 */
export class StopEvidence {
  readonly #before: Observation;
  #orderedAt: number | undefined;
  /** The machines on which the unit may still run. */
  readonly #open: Set<string>;
  /** Every machine that it was on. */
  readonly #known: Set<string>;
  readonly #left = new Set<string>();
  #ran: boolean;

  /** @param before from before the stop was ordered */
  constructor(before: Observation) {
    this.#before = before;
    this.#open = new Set(machinesOf(before));
    this.#known = new Set(this.#open);
    this.#ran = this.showsRunning(before);
  }

  /** Whether the unit runs on none of its machines any more. */
  get isComplete(): boolean {
    return this.#open.size === 0;
  }

  /** Whether fleet has shown that it ran. */
  get ran(): boolean {
    return this.#ran;
  }

  /** Whether fleet has shown before the restart that it did not run. */
  get wasStopped(): boolean {
    if (this.#ran) return false;
    const row = ownRow(this.#before);
    return (
      this.#known.size === 0 ||
      this.#before.unit.machineID === null ||
      (row !== undefined && saysStopped(row))
    );
  }

  /** The machines on which the unit was when they left the cluster. Whether it still runs there cannot be seen. */
  get leftMachines(): readonly string[] {
    return [...this.#left];
  }

  /** The machines without a proof. */
  get openMachines(): readonly string[] {
    return [...this.#open];
  }

  /** Whether fleet shows the unit as running where there is no proof yet. */
  showsRunning(seen: Observation): boolean {
    return [...this.#open].some((machineID) => {
      const row = rowOn(seen, machineID);
      return row !== undefined && saysRunning(row);
    });
  }

  /** Whether a machine without a proof shows no row, so that it matters whether fleet lists it. */
  lacksRow(seen: Observation): boolean {
    return [...this.#open].some((machineID) => rowOn(seen, machineID) === undefined);
  }

  /** The stop was ordered at this time, in the clock's milliseconds. What is added after that counts. */
  ordered(at: number): void {
    this.#orderedAt = at;
  }

  /** @param listed the ids of the machines that fleet lists, when they were asked for */
  add(seen: Observation, now: number, listed?: ReadonlySet<string>): void {
    const { machineID: own } = seen.unit;
    if (own !== null && !this.#known.has(own)) {
      this.#known.add(own);
      this.#open.add(own);
    }
    for (const machineID of this.#open) {
      const row = rowOn(seen, machineID);
      if (row !== undefined && saysRunning(row)) this.#ran = true;
      if (row !== undefined && saysStopped(row) && this.#isNew(seen, machineID, now))
        this.#open.delete(machineID);
      if (row === undefined && listed?.has(machineID) === false && own !== machineID) {
        this.#open.delete(machineID);
        this.#left.add(machineID);
      }
    }
  }

  /** Whether a row that says stopped cannot be from before the stop was ordered. */
  #isNew({ unit }: Observation, machineID: string, now: number): boolean {
    // The agent has not carried out the order.
    if (unit.machineID === machineID && unit.currentState === 'launched') return false;
    const earlier = rowOn(this.#before, machineID);
    if (earlier === undefined || !saysStopped(earlier) || this.#ran) return true;
    const { desiredState, currentState } = this.#before.unit;
    return (
      desiredState !== 'launched' || currentState === 'launched' || now - (this.#orderedAt ?? now) >= STALE_MS
    );
  }
}
