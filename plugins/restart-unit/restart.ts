import { ActionError } from '../../src/plugin.js';
import { DesiredStateWatch } from './desired-state.js';
import type { Observation } from './observation.js';
import { PendingOrders } from './pending-orders.js';
import { RestartReport } from './restart-report.js';
import { RestartTime } from './restart-time.js';
import { StartEvidence, type StartOutcome } from './start-evidence.js';
import { type StartingPoint, startingPoint } from './starting-point.js';
import { StopEvidence } from './stop-evidence.js';
import { failureText, POLL_MS, UnitWatch, type WatchParts } from './unit-watch.js';

export interface RestartParts extends WatchParts {
  /** The signal of the request. Before the unit is changed it ends the restart, after that only the waiting. */
  signal: AbortSignal;
  /** Whether another worker may have begun the same request. */
  repeated: boolean;
  /** Adds a sentence for people to the reply. */
  warn: (text: string) => void;
}

/**
 * Restarts a unit through fleet: sets it to `loaded` and waits until it has certainly stopped, then sets it to
 * `launched` and waits until it is up and stays up. (fleetctl does not wait for the stop, so the unit may never stop.)
 * @returns what was observed before and after, and a string for people with that
 * @throws the signal's reason only when nothing was changed
 * @throws ActionError that says which states were observed, and whether the unit is now stopped
 */
export async function restart(name: string, waitMs: number, parts: RestartParts): Promise<Restarted> {
  const start = await startingPoint(name, parts);
  parts.signal.throwIfAborted();
  return new Restart(name, start, waitMs, parts).run();
}

/** What a restart was seen to do. */
export interface Restarted {
  text: string;
  before: Observation;
  after: Observation;
}

/** One restart, from its first order on. An abort shortens only its waits: the unit must not be left stopped. */
class Restart {
  readonly #name: string;
  readonly #start: StartingPoint;
  readonly #parts: RestartParts;
  readonly #time: RestartTime;
  readonly #watch: UnitWatch;
  readonly #stop: StopEvidence;
  readonly #pending = new PendingOrders();
  readonly #report: RestartReport;
  /** The desired state before `launched` is ordered. */
  #desiredBefore: string | null;
  /** An order to stop was sent whose outcome is unknown. */
  #mayStopLate = false;

  constructor(name: string, start: StartingPoint, waitMs: number, parts: RestartParts) {
    this.#name = name;
    this.#start = start;
    this.#parts = parts;
    this.#time = new RestartTime(parts.clock, parts.signal, waitMs);
    this.#watch = new UnitWatch(name, start.seen, parts);
    this.#stop = new StopEvidence(start);
    this.#report = new RestartReport({
      name,
      start,
      watch: this.#watch,
      stop: this.#stop,
      pending: this.#pending,
      parts,
    });
    this.#desiredBefore = start.seen.unit.desiredState;
  }

  async run(): Promise<Restarted> {
    const report = this.#report;
    if (this.#parts.repeated) report.rerun();
    const mustStop = !this.#stop.isComplete;
    const unsure = mustStop ? await this.#orderStop() : undefined;
    const other = mustStop && unsure === undefined ? await this.#untilStopped() : undefined;
    report.stopEnded();
    // What somebody else has set stays, except `launched`: to order it once more changes nothing, and is safe in doubt.
    if (other !== undefined && other !== 'launched') throw report.changedMeanwhile(other);
    await this.#launch();
    if (!mustStop) this.#judgeStart();
    if (other !== undefined) throw report.changedMeanwhile(other);
    if (unsure !== undefined) throw report.stopUnknown(unsure);
    if (!this.#stop.isComplete) throw report.notStopped();
    const outcome = await this.#untilStarted();
    return { text: report.done(outcome), before: this.#start.seen, after: this.#watch.last };
  }

  /**
   * Sends `loaded` until fleet has confirmed it; the call is idempotent.
   * @returns the failure when it is not known whether fleet applied it
   * @throws ActionError when fleet certainly did not apply it
   */
  async #orderStop(): Promise<unknown> {
    for (;;) {
      try {
        // Without the request's signal: after an abort it would not be known whether the unit must be launched again.
        await this.#setDesiredState('loaded');
        break;
      } catch (error) {
        // After one attempt with an unknown outcome, a later failure does not show that the unit is unchanged.
        if (!this.#mayStopLate && hasCodeOf(error, WITHOUT_EFFECT)) throw error;
        const isRefused = !this.#mayStopLate && hasCodeOf(error, REFUSED);
        if (isRefused && (await this.#watch.allShow(this.#desiredBefore))) throw error;
        this.#mayStopLate = true;
        const seen = await this.#seen();
        if (seen?.unit.desiredState === 'loaded') break;
        if (!this.#time.leavesStopOrder()) return error;
      }
      await this.#pause();
    }
    this.#stop.ordered(this.#parts.clock.now());
    this.#judgeStart();
    return undefined;
  }

  /** After the first order that fleet has carried out. */
  #judgeStart(): void {
    const { host } = this.#start;
    if (host !== undefined && !this.#watch.informed.include(host)) this.#stop.startMayBeOld();
  }

  /**
   * Waits until it is proven that the unit has stopped, or the time for that is over.
   * @returns the desired state that somebody else has set meanwhile
   */
  async #untilStopped(): Promise<string | undefined> {
    const desired = new DesiredStateWatch('loaded', this.#desiredBefore);
    this.#desiredBefore = 'loaded';
    while (!this.#stop.isComplete && this.#time.leavesStop()) {
      const look = await this.#watch.look({ withMachines: this.#stop.lacksRow(this.#watch.last) });
      // If that is wrong, the unit must be launched again; if not, launching says so.
      if (look === 'removed') return undefined;
      if (look !== undefined) {
        this.#stop.add(look.seen, this.#parts.clock.now(), look.listed);
        const other = desired.changedTo(look.seen.unit);
        if (other !== undefined) return other;
      }
      if (!this.#stop.isComplete) await this.#pause();
    }
    return undefined;
  }

  /** Sends `launched` until fleet has confirmed it. */
  async #launch(): Promise<void> {
    const { clock, log } = this.#parts;
    const from = clock.now();
    let failures = 0;
    const launched = () => {
      const lasted = Math.round(clock.now() - from);
      if (failures > 0) log.info('unit launched', { unit: this.#name, lasted_ms: lasted, failures });
    };
    for (;;) {
      try {
        await this.#setDesiredState('launched');
        launched();
        return;
      } catch (error) {
        // A proxy may have answered for fleet.
        if (isUnitNotFound(error)) await this.#seen();
        const reason = failureText(error);
        if (!this.#time.leavesLaunch(from)) {
          // It may have been applied all the same.
          const seen = await this.#seen();
          if (seen?.unit.desiredState === 'launched') {
            launched();
            return;
          }
          throw this.#report.notLaunched(seen, reason);
        }
        if (failures++ === 0) log.warn('unit launch failed', { unit: this.#name, reason });
        await this.#pause();
      }
    }
  }

  /** Waits until the unit is up and stays up, or has done its work. */
  async #untilStarted(): Promise<StartOutcome> {
    const { clock } = this.#parts;
    const launchedAt = clock.now();
    const start = new StartEvidence(this.#watch.last, launchedAt);
    let desired = new DesiredStateWatch('launched', this.#desiredBefore);
    for (;;) {
      const inTime = this.#time.leavesStart(launchedAt);
      const seen = await this.#seen();
      if (seen === undefined) {
        start.addNothing();
      } else {
        const other = desired.changedTo(seen.unit);
        if (other === 'loaded' && this.#mayStopLate) {
          this.#report.stoppedAgain();
          await this.#launch();
          desired = new DesiredStateWatch('launched', 'loaded');
        } else if (other !== undefined) {
          throw this.#report.changedMeanwhile(other);
        }
        const outcome = start.add(seen, clock.now(), inTime);
        if (outcome !== undefined) return outcome;
      }
      if (start.hasFailed || this.#time.isAborted || !(inTime || start.isSettling)) break;
      await this.#pause();
    }
    throw await this.#report.notStarted(start, launchedAt);
  }

  /** What fleet shows now; undefined when it could not be asked. @throws ActionError `unit_not_found` */
  async #seen(): Promise<Observation | undefined> {
    const look = await this.#watch.look();
    if (look === 'removed') throw removed(this.#name);
    return look?.seen;
  }

  async #setDesiredState(state: 'loaded' | 'launched'): Promise<void> {
    try {
      await this.#watch.order(state);
    } catch (error) {
      this.#pending.failed(state, error);
      throw error;
    }
  }

  async #pause(): Promise<void> {
    await this.#parts.clock.sleep(POLL_MS);
  }
}

/** The errors of a change that has certainly not been made. */
const WITHOUT_EFFECT: ReadonlySet<string> = new Set([
  'cluster_not_found',
  'cluster_empty',
  'cluster_unreachable',
  'discovery_unreachable',
  'forbidden',
  'invalid_parameters',
  'unit_not_found',
]);

/** The errors of a change that somebody has refused: fleet, or a proxy, which may have sent it to fleet before. */
const REFUSED: ReadonlySet<string> = new Set(['cluster_refused', 'cluster_answer_invalid']);

function hasCodeOf(error: unknown, codes: ReadonlySet<string>): boolean {
  return error instanceof ActionError && codes.has(error.code);
}

function isUnitNotFound(error: unknown): boolean {
  return error instanceof ActionError && error.code === 'unit_not_found';
}

function removed(name: string): ActionError {
  return new ActionError(
    'unit_not_found',
    `${name} was removed from the cluster while it was being restarted`,
  );
}
