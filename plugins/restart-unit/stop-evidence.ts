import { machinesOf, type Observation, ownRow, rowOn, saysRunning, saysStopped } from './observation.js';
import type { UnitState } from '../../src/plugin.js';
import type { StartingPoint } from './starting-point.js';

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
  readonly #start: StartingPoint;
  #orderedAt: number | undefined;
  /** The machines on which the unit may still run. */
  readonly #open: Set<string>;
  /** Every machine that it was on. */
  readonly #known: Set<string>;
  readonly #left = new Set<string>();
  /** Whether the starting point shows it running; and what was seen after that. */
  readonly #ranAtStart: boolean;
  #ran = false;
  #isStartOld = false;

  /** @param start from before the stop was ordered */
  constructor(start: StartingPoint) {
    this.#start = start;
    this.#open = new Set(machinesOf(start.seen));
    this.#known = new Set(this.#open);
    this.#ranAtStart = this.showsRunning(start.seen);
  }

  /** Whether the unit runs on none of its machines any more. */
  get isComplete(): boolean {
    return this.#open.size === 0;
  }

  /** What fleet has shown of the time before the stop. A machine that it did not list may have run the unit. */
  get before(): 'ran' | 'stopped' | 'unknown' {
    if (this.#ran) return 'ran';
    const { seen, missing } = this.#start;
    if (this.#isStartOld) return 'unknown';
    if (this.#ranAtStart) return 'ran';
    const row = ownRow(seen);
    if (row !== undefined && saysStopped(row)) return 'stopped';
    return this.#known.size === 0 && missing === undefined ? 'stopped' : 'unknown';
  }

  /**
   * Whether the unit, which is up on this machine, may have run there all the time: fleet did not list the machine when the
   * restart began, or no longer when the unit had to stop.
   */
  mayHaveRunOn(machineID: string): boolean {
    if (this.#left.has(machineID)) return true;
    return !this.#known.has(machineID) && !this.#start.listed.has(machineID);
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
    return [...this.#open].some((machineID) => isRunning(rowOn(seen, machineID)));
  }

  /** Whether a machine without a proof shows no row, so that it matters whether fleet lists it. */
  lacksRow(seen: Observation): boolean {
    return [...this.#open].some((machineID) => rowOn(seen, machineID) === undefined);
  }

  /** The host that showed the starting point has not confirmed the first order, so that may have been an old state. */
  startMayBeOld(): void {
    this.#isStartOld = true;
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
      if (isRunning(row)) this.#ran = true;
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
    const before = this.#start.seen;
    const earlier = rowOn(before, machineID);
    if (earlier === undefined || !saysStopped(earlier) || this.#ran || this.#ranAtStart) return true;
    const { desiredState, currentState } = before.unit;
    return (
      desiredState !== 'launched' || currentState === 'launched' || now - (this.#orderedAt ?? now) >= STALE_MS
    );
  }
}

function isRunning(row: UnitState | undefined): boolean {
  return row !== undefined && saysRunning(row);
}
