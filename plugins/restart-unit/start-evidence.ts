import type { UnitState } from '../../src/plugin.js';
import {
  endsByItself,
  hasFailed,
  isUp,
  type Observation,
  ownRow,
  saysRunning,
  saysStopped,
} from './observation.js';
import { STALE_MS } from './stop-evidence.js';

/** How long a unit must be active to count as started: fleet shows a crash after up to 7 s. In milliseconds. */
const STEADY_MS = 7_000;
/** The same when the time is up; not shorter, since a flapping unit is briefly active. */
const LATE_STEADY_MS = 2_000;

/**
 * - `up`: it is active, and has been for long enough
 * - `ended`: it has done its work, as a oneshot unit does
 * - `ended unseen`: the same, but fleet did not show it running
 */
export type StartOutcome = 'up' | 'ended' | 'ended unseen';

/**
 * Collects what shows that a launched unit has started. Only time in which fleet showed a state of the unit counts.
 */
export class StartEvidence {
  /** Until then a failure may be one from before the restart. */
  readonly #failureCountsAt: number;
  #lastGoodAt: number | undefined;
  #goodMs = 0;
  #ran = false;
  #fallen = 0;
  #failed = false;

  constructor(stopped: Observation, launchedAt: number) {
    const failedBefore = ownRow(stopped)?.systemdActiveState === 'failed';
    this.#failureCountsAt = failedBefore ? launchedAt + STALE_MS : launchedAt;
  }

  /** Whether the unit is in its final state, but has not been for long enough. */
  get isSettling(): boolean {
    return this.#lastGoodAt !== undefined;
  }

  /** For how long it has been seen in its final state, in milliseconds. */
  get settledMs(): number {
    return this.#goodMs;
  }

  /** How often the unit was up and did not stay so. */
  get timesFallen(): number {
    return this.#fallen;
  }

  /** Whether it has failed; not before the restart. */
  get hasFailed(): boolean {
    return this.#failed;
  }

  /** fleet could not be asked. */
  addNothing(): void {
    this.#lastGoodAt = undefined;
  }

  /** @param inTime whether the time for the start is not over. @returns undefined while it is not decided */
  add(seen: Observation, now: number, inTime: boolean): StartOutcome | undefined {
    const row = ownRow(seen);
    if (row === undefined) {
      this.addNothing();
      return undefined;
    }
    if (hasFailed(seen)) {
      this.#fall();
      this.#failed = now >= this.#failureCountsAt;
      return undefined;
    }
    if (endsByItself(seen.unit)) return this.#addOneshot(seen, row, now);
    if (!isUp(seen)) {
      this.#fall();
      return undefined;
    }
    this.#addGood(now);
    return this.#goodMs >= (inTime ? STEADY_MS : LATE_STEADY_MS) ? 'up' : undefined;
  }

  #addOneshot({ unit }: Observation, row: UnitState, now: number): StartOutcome | undefined {
    const launched = unit.currentState === 'launched';
    if (!launched || !saysStopped(row)) {
      this.#ran ||= launched && saysRunning(row);
      this.#lastGoodAt = undefined;
      this.#goodMs = 0;
      return undefined;
    }
    this.#addGood(now);
    if (this.#ran) return 'ended';
    return this.#goodMs >= STALE_MS ? 'ended unseen' : undefined;
  }

  #addGood(now: number): void {
    if (this.#lastGoodAt !== undefined) this.#goodMs += now - this.#lastGoodAt;
    this.#lastGoodAt = now;
  }

  #fall(): void {
    if (this.#lastGoodAt !== undefined || this.#goodMs > 0) this.#fallen++;
    this.#lastGoodAt = undefined;
    this.#goodMs = 0;
  }
}
