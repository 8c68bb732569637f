import { ActionError, type Clock, type Cluster, type FleetTransport } from '../../src/plugin.js';
import { describeState, endsByItself, type Observation, ownRow, saysStopped } from './observation.js';
import type { PendingOrders } from './pending-orders.js';
import { writtenRequirements } from './scheduling.js';
import type { StartEvidence, StartOutcome } from './start-evidence.js';
import type { StartingPoint } from './starting-point.js';
import { STALE_MS, type StopEvidence } from './stop-evidence.js';
import { UNREACHABLE_MS, failureText, seconds, type UnitWatch } from './unit-watch.js';

interface ReportParts {
  name: string;
  start: StartingPoint;
  watch: UnitWatch;
  stop: StopEvidence;
  pending: PendingOrders;
  parts: {
    fleet: FleetTransport;
    cluster: Cluster;
    clock: Clock;
    signal: AbortSignal;
    warn: (text: string) => void;
  };
}

const UNSEEN_RUN =
  'fleet did not show it running: it ran for less than the 7 s that fleet takes to show a change, or a condition in its file kept it from running';

/** Says what came of a restart, to people: never more than fleet has shown. */
export class RestartReport {
  readonly #given: ReportParts;
  readonly #notes: string[] = [];
  readonly #startedAt: number;
  /** When the wait for the stop ended, what was seen then, and how long fleet could not be asked until then. */
  #stopEnd: { at: number; seen: Observation; unreachableMs: number };

  constructor(given: ReportParts) {
    this.#given = given;
    this.#startedAt = this.#now;
    this.#stopEnd = this.#present();
  }

  /** Another worker may have begun the same request. */
  rerun(): void {
    this.#note("another worker may have begun this request: 'before' is what this run has found");
  }

  /** fleet has shown `loaded` after the launch, and an order to stop is unanswered. The unit is launched again. */
  stoppedAgain(): void {
    const text =
      'its desired state became loaded after it was launched, and it was launched again: that was the unanswered order, or somebody has stopped the unit';
    if (!this.#notes.includes(text)) this.#note(text);
  }

  /** The wait for the stop has ended. */
  stopEnded(): void {
    this.#stopEnd = this.#present();
  }

  /** fleet has not confirmed the order to stop, and has confirmed that it launches the unit again. */
  stopUnknown(reason: unknown): ActionError {
    const { name, watch } = this.#given;
    return this.#error(
      'outcome_unknown',
      `It is not known whether fleet stopped ${name} (${failureText(reason)}); its desired state is launched again${watch.unreachableNote}`,
    );
  }

  /** There is no proof that the unit has stopped, and fleet has confirmed that it launches it again. */
  notStopped(): ActionError {
    const { name, watch, stop } = this.#given;
    const { at, seen, unreachableMs } = this.#stopEnd;
    const isShown =
      stop.showsRunning(seen) && (unreachableMs < UNREACHABLE_MS || watch.reachableMs >= STALE_MS);
    if (isShown) {
      return this.#error(
        'unit_did_not_stop',
        `${name} did not stop within ${seconds(at - this.#startedAt - unreachableMs)} as far as fleet shows; its desired state is launched again${watch.unreachableNote}`,
      );
    }
    return this.#error(
      'outcome_unknown',
      `It is not known whether ${name} stopped: fleet showed nothing that proves it for machine ${stop.openMachines.join(', ')}; its desired state is launched again${watch.unreachableNote}`,
    );
  }

  changedMeanwhile(state: string): ActionError {
    const { name, stop } = this.#given;
    const stopped = stop.isComplete ? this.#stopped() : `${name} was told to stop`;
    return this.#error(
      'unit_changed_meanwhile',
      `${stopped}, but then somebody else set its desired state to ${state}, and it was left so`,
    );
  }

  /** fleet has not confirmed that it launches the unit. @param seen undefined when it could not be asked after that */
  notLaunched(seen: Observation | undefined, reason: string): ActionError {
    const { name, watch, stop } = this.#given;
    const row = seen && ownRow(seen);
    if (stop.isComplete && row !== undefined && saysStopped(row)) {
      return this.#error(
        'unit_stopped',
        `${name} IS NOW STOPPED: fleet could not be asked to start it: ${reason}${watch.unreachableNote}`,
      );
    }
    return this.#error(
      'outcome_unknown',
      `${name} MAY NOW BE STOPPED: fleet did not confirm that it starts it again: ${reason}${watch.unreachableNote}`,
    );
  }

  /** The unit was launched, and fleet has not shown that it is up. */
  async notStarted(start: StartEvidence, launchedAt: number): Promise<ActionError> {
    const { watch, parts } = this.#given;
    const { last } = watch;
    const { aborted } = parts.signal;
    const unreachableMs = watch.unreachableMs - this.#stopEnd.unreachableMs;
    const why = `${watch.unreachableNote}${aborted ? `; the request ended: ${failureText(parts.signal.reason)}` : ''}`;
    if (start.hasFailed)
      return this.#error('unit_failed', `${this.#given.name} failed when it was started${why}`);
    if (start.timesFallen > 0) {
      const count = start.timesFallen + (start.isSettling ? 1 : 0);
      const times = count === 1 ? 'once' : `${count} times`;
      return this.#error('unit_flaps', `${this.#given.name} started ${times} and did not stay up${why}`);
    }
    const launched = `${this.#stopped()}, and set to launched`;
    if (start.isSettling) {
      const shown = endsByItself(last.unit) ? 'has ended, or has not begun' : 'is up';
      return this.#error(
        'outcome_unknown',
        `${launched}; it ${shown}, but was watched for ${seconds(start.settledMs)} only, and fleet may show a failure later${why}`,
      );
    }
    if (unreachableMs >= UNREACHABLE_MS && watch.reachableMs < STALE_MS)
      return this.#error('outcome_unknown', `${launched}; it is not known whether it is up${why}`);
    if (last.unit.machineID === null) return this.#notScheduled(launched, why);
    if (ownRow(last) === undefined && !aborted)
      return this.#error('outcome_unknown', `${launched}; its machine shows no state of it${why}`);
    const waited = seconds(this.#now - launchedAt - unreachableMs);
    return this.#error('unit_not_started', `${launched}, and is not shown as active after ${waited}${why}`);
  }

  /** The result. @throws ActionError `outcome_unknown` when the unit is up and may not have been restarted */
  done(outcome: StartOutcome): string {
    const { name, start, watch, stop, pending } = this.#given;
    const before = start.seen;
    const started = watch.last;
    const { machineID } = started.unit;
    const left = stop.leftMachines;
    if (machineID !== null && stop.mayHaveRunOn(machineID)) {
      throw this.#error(
        'outcome_unknown',
        `${name} is up, but it is not known whether it was restarted: fleet did not list its machine for a while, and it may have run there${watch.unreachableNote}`,
      );
    }
    const hash = ownRow(before)?.hash;
    if (left.length > 0)
      this.#note(`machine ${left.join(', ')} left the cluster: the unit may still run there`);
    else if (stop.before === 'unknown' && start.missing !== undefined) this.#note(start.missing);
    if (hash !== undefined && ownRow(started)?.hash !== hash)
      this.#note('somebody else replaced its unit file during the restart');
    if (watch.wasUnreachable) this.#note(`fleet could not be asked for ${seconds(watch.unreachableMs)}`);
    if (outcome === 'ended unseen') this.#note(UNSEEN_RUN);
    for (const warning of pending.warnings) this.#note(warning);
    const { at, seen } = this.#stopEnd;
    const stopped = {
      ran: `after ${seconds(at - this.#startedAt)}`,
      stopped: 'it was not running',
      unknown: 'it was not shown running',
    };
    const end = outcome === 'up' ? '' : ', and ended without a failure';
    return [
      `${name} was ${this.#deed()}${end}${this.#wasRunning()}.`,
      `before:  ${describeState(before)}`,
      `stopped: ${describeState(seen)} (${stopped[stop.before]})`,
      `started: ${describeState(started)} (after ${seconds(this.#now - at)})`,
      ...this.#notes.map((note) => `note:    ${note}`),
      '',
    ].join('\n');
  }

  #present() {
    const { watch } = this.#given;
    return { at: this.#now, seen: watch.last, unreachableMs: watch.unreachableMs };
  }

  get #now(): number {
    return this.#given.parts.clock.now();
  }

  /** For the result and the reply's warnings. */
  #note(text: string): void {
    this.#notes.push(text);
    this.#given.parts.warn(`${this.#given.name}: ${text}`);
  }

  #deed(): string {
    const { watch, stop } = this.#given;
    if (stop.leftMachines.length > 0) return `started on machine ${watch.last.unit.machineID}`;
    return stop.before === 'ran' ? 'restarted' : 'started';
  }

  /** The end of the sentence that says what was done. */
  #wasRunning(): string {
    const { stop } = this.#given;
    if (stop.before === 'stopped') return '; it was not running before';
    if (stop.before === 'ran' || stop.leftMachines.length > 0) return '';
    return '; whether it was running before is not known';
  }

  /** What is proven of the stop, as the beginning of a sentence. */
  #stopped(): string {
    const { name, stop } = this.#given;
    if (stop.before === 'stopped') return `${name} was not running before`;
    if (stop.leftMachines.length > 0)
      return `${name} lost its machine ${stop.leftMachines.join(', ')}, where it may still run`;
    return stop.before === 'ran' ? `${name} was stopped` : `${name} was not shown running before`;
  }

  async #notScheduled(launched: string, why: string): Promise<ActionError> {
    const { watch, parts } = this.#given;
    const requirements = writtenRequirements(watch.last.unit);
    const needs = requirements.length === 0 ? '' : `; it requires ${requirements.join(', ')}`;
    const text = `${launched}; fleet has found no machine for it yet${needs}${why}`;
    const missing = await watch
      .ask(async (options) => parts.fleet.incompleteness(parts.cluster, options))
      .catch((error: unknown) => `It is not known whether fleet lists all machines: ${failureText(error)}`);
    if (missing === undefined) return this.#error('unit_not_scheduled', text);
    // The machine may be one of those that fleet does not list, so this is not the caller's fault.
    return this.#error('unit_not_started', `${text}. ${missing}`);
  }

  /** An error with the last observed state. */
  #error(code: string, text: string): ActionError {
    const { name, watch, pending } = this.#given;
    const sentences = [text, ...pending.warnings, `Last state: ${describeState(watch.last)}`];
    return new ActionError(code, sentences.join('. '), {
      details: { unit: name, state: ownRow(watch.last) },
    });
  }
}
