import { ActionError } from '../api/action-error.js';
import { errorCodeInfo } from '../api/error-codes.js';
import type { Cluster } from '../api/cluster.js';
import type { Admitted } from './admission.js';
import type { BeforeChange } from './before-change.js';
import { type Call, type Ended, type Failed, RELEASED, releases, type Settled } from './call.js';
import { settledWith } from './call-errors.js';
import { type ChangeClaims, type Claim, type Claimed, MadeElsewhere } from './change-claims.js';
import { ofRepeatedChange } from './repeated-change.js';
import { UnitTurns } from './unit-turns.js';

/** What is done of an action. `probe`: it finds out what came of an earlier run. */
export interface Performance {
  work: 'run' | 'probe';
  /** Whether an earlier run may have begun. */
  repeated: boolean;
}

/** A change that waits until it may begin. */
export interface GatedChange {
  readonly call: Call;
  readonly admitted: Admitted;
  /** Aborted when it is stopped. While it waits, an abort with `ConnectionLost` or `Shutdown` releases it. */
  readonly signal: AbortSignal;
  /** Aborted when the service does not wait for it any more. */
  readonly ending: AbortSignal;
  /** How long the service has had it, in milliseconds. */
  readonly heldMs: () => number;
  /** @throws ActionError when its time is up, so that only a probe may begin */
  readonly requireTime: () => void;
  /** Waits for what the performance needs. @throws ActionError, or the signal's reason, when it must not begin */
  readonly prepare: (performance: Performance) => Promise<void>;
  /**
   * Never rejects.
   * @param takeUnit for the changes within it
   */
  readonly perform: (performance: Performance, takeUnit: TakeUnit) => Promise<Ended>;
  readonly stop: (reason: ActionError) => void;
  /** Called when it is known what earlier deliveries of the call have done. */
  readonly onKnown: () => void;
}

/**
 * Takes another unit for a part of a change, without a wait.
 * @returns gives it up; undefined: another change has it, or waits for it
 * @throws ActionError `service_unavailable`, or the signal's reason
 */
export type TakeUnit = (
  cluster: Cluster | undefined,
  unit: string,
  signal: AbortSignal,
) => Promise<(() => Promise<void>) | undefined>;

/** A change that is refused before it gets to wait here. */
export interface RefusedChange {
  readonly call: Call;
  /** The name of the action. */
  readonly action: string;
  readonly refusal: Failed;
  /** How long the service has had it, in milliseconds. */
  readonly heldMs: number;
  /** Aborted when there is no time to note the refusal. */
  readonly signal: AbortSignal;
  /** Called when it is known what earlier deliveries of the call have done. */
  readonly onKnown: () => void;
}

/** Lets a change begin when no other changes its units, and when no other worker has made it, as far as claims tell. */
export class ChangeGate {
  readonly #claims: ChangeClaims | undefined;
  readonly #beforeChange: BeforeChange | undefined;
  readonly #turns = new UnitTurns();

  /**
   * @param claims undefined: the workers have no store in which they agree
   * @param beforeChange undefined: nothing is to be done before a change
   */
  constructor(claims: ChangeClaims | undefined, beforeChange?: BeforeChange) {
    this.#claims = claims;
    this.#beforeChange = beforeChange;
  }

  /** Never rejects. */
  async run(change: GatedChange): Promise<Settled> {
    const { call, admitted } = change;
    const { cluster, unitNames: units } = admitted;
    const repeated = call.delivery === 'repeated';
    try {
      // The changes within it may have units.
      const mayHaveUnits = units.length > 0 || admitted.action.callsOthers;
      if (this.#claims !== undefined && (call.key !== undefined || mayHaveUnits))
        return await this.#claimed(this.#claims, change, units);
      const performance = { work: 'run', repeated } as const;
      // At once, where there is nothing to wait for.
      if (units.length === 0) return await this.#perform(change, performance);
      return await this.#turns.run(cluster, units, change.signal, async () =>
        this.#perform(change, performance),
      );
    } catch (error) {
      return releases(error) ? RELEASED : settledWith(error, call.id);
    }
  }

  /**
   * Notes a refusal, so that no other worker makes a change whose caller was told that nothing was changed. Never rejects.
   * @returns what its caller is told: what another worker has made of it, where that is known
   */
  async refuse({ call, action, refusal, heldMs, signal, onKnown }: RefusedChange): Promise<Settled> {
    const { key, id, mayBeCopy: isRepeated } = call;
    if (this.#claims === undefined || key === undefined) return refusal;
    // One that the policy denies is denied by every worker. But it may have been allowed when it was delivered before.
    const isDenied = refusal.body.code === 'forbidden';
    if (!isRefusal(refusal) && !(isRepeated && isDenied)) return refusal;
    const unnoted = isRepeated ? ofRepeatedChange(refusal) : refusal;
    try {
      const claimed = await this.#claims.claim({ key, id, action, isRepeated, heldMs }, signal);
      if (claimed.state === 'held' && claimed.claim.wasBegun) {
        await claimed.claim.release();
        return unnoted;
      }
      onKnown();
      if (claimed.state === 'settled') return claimed.reply;
      if (isDenied && call.caller.verifiedBy === undefined) {
        // It may be a copy of another caller's change, which must not be refused for it.
        await claimed.claim.release();
        return refusal;
      }
      const isNoted = await claimed.claim.settle(refusal, signal);
      return isNoted && !isConnectionLost(call) ? refusal : RELEASED;
    } catch (error) {
      if (isLeft(error, call)) return RELEASED;
      // The store is away.
      const { cause } = error instanceof MadeElsewhere ? error : { cause: error };
      return cause === signal.reason || cause instanceof ActionError ? unnoted : settledWith(error, id);
    }
  }

  async #perform(change: GatedChange, performance: Performance): Promise<Ended> {
    if (this.#beforeChange !== undefined) {
      await this.#announce(change, performance);
      change.signal.throwIfAborted();
      change.requireTime();
    }
    return change.perform(performance, this.#takeUnit(undefined));
  }

  #takeUnit(claim: Claim | undefined): TakeUnit {
    return async (cluster, unit, signal) => {
      const leave = this.#turns.take(cluster, unit);
      if (leave === undefined || claim === undefined) return leave;
      let unlock: (() => Promise<void>) | undefined;
      try {
        unlock = await claim.tryLockUnit(cluster, unit, signal);
      } finally {
        if (unlock === undefined) await leave();
      }
      if (unlock === undefined) return undefined;
      const free = unlock;
      return async () => {
        await free();
        await leave();
      };
    };
  }

  /** @throws ActionError, or the signal's reason, when it must not begin */
  async #announce({ call, admitted, signal }: GatedChange, { work }: Performance): Promise<void> {
    if (this.#beforeChange === undefined) return;
    const { action, cluster, parameters, unitNames: units, rule } = admitted;
    const { name } = action.description;
    await this.#beforeChange({ call, action: name, cluster, units, parameters, rule, work }, signal);
  }

  /** @throws ActionError, or the signal's reason, when it could not be claimed */
  async #claimed(claims: ChangeClaims, change: GatedChange, units: readonly string[]): Promise<Settled> {
    const { call, admitted, signal } = change;
    const { action, cluster } = admitted;
    const isRepeated = call.mayBeCopy;
    let claimed: Claimed;
    try {
      claimed = await claims.claim(
        { key: call.key, id: call.id, action: action.description.name, isRepeated, heldMs: change.heldMs() },
        signal,
      );
    } catch (error) {
      if (isLeft(error, call)) return RELEASED;
      const settled = settledWith(error instanceof MadeElsewhere ? error.cause : error, call.id);
      return isRepeated ? ofRepeatedChange(settled) : settled;
    }
    // What follows tells its caller itself what another worker may have made of it.
    change.onKnown();
    if (claimed.state === 'settled') return claimed.reply;
    const { claim } = claimed;
    const mayHaveBegunElsewhere = claim.wasBegun || (call.key === undefined && isRepeated);
    const settle = async (reply: Ended) => {
      const told = mayHaveBegunElsewhere ? ofRepeatedChange(reply) : reply;
      return { told, isNoted: await claim.settle(told, change.ending) };
    };
    const cancel = claim.onLost(change.stop);
    try {
      const performance = performanceOf(change, claim);
      const work = async () => {
        for (const unit of units) await claim.lockUnit(cluster, unit, signal);
        await change.prepare(performance);
        await this.#announce(change, performance);
        await claim.begin(signal);
        signal.throwIfAborted();
        if (performance.work === 'run') change.requireTime();
        const { told } = await settle(await change.perform(performance, this.#takeUnit(claim)));
        return told;
      };
      // A refusal would say nothing of what another worker has made of it.
      return await this.#turns.run(cluster, units, signal, work, !isRepeated);
    } catch (error) {
      if (releases(error)) {
        await claim.release();
        return RELEASED;
      }
      const { told, isNoted } = await settle(settledWith(error, call.id));
      // Another worker may make it: its caller must not be told that nothing was changed.
      return isNoted ? told : RELEASED;
    } finally {
      cancel();
    }
  }
}

/** Whether a change that could not be claimed goes back to where it came from, as another worker may make it. */
function isLeft(error: unknown, call: Call): boolean {
  if (isConnectionLost(call)) return true;
  if (error instanceof MadeElsewhere) return releases(error.cause) || !call.mayBeCopy;
  return releases(error);
}

/** Whether another worker may get the call too. */
function isConnectionLost({ signal }: Call): boolean {
  return signal.aborted && releases(signal.reason);
}

/** Whether it says that nothing was changed, for a reason that may not hold for another worker. */
function isRefusal(reply: Ended): boolean {
  return reply.status === 'error' && errorCodeInfo(reply.body.code).retryable;
}

/** @throws ActionError when nothing can be done after an earlier run */
function performanceOf({ call, admitted: { action } }: GatedChange, { wasBegun }: Claim): Performance {
  if (!wasBegun) return { work: 'run', repeated: call.key === undefined && call.delivery === 'repeated' };
  if (action.probe !== undefined) return { work: 'probe', repeated: true };
  if (action.description.redelivery === 'run-again') return { work: 'run', repeated: true };
  throw outcomeNotReported(action.description.name);
}

/** The error of a change of which nothing is known but that an earlier worker began it. */
export function outcomeNotReported(action: string): ActionError {
  return new ActionError(
    'outcome_unknown',
    `A worker began ${action} for this request and ended before it reported the outcome: it may or may not have been done, and is not run again`,
  );
}
