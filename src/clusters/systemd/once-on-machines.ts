import { randomUUID } from 'node:crypto';
import { ActionError } from '../../api/action-error.js';
import { noteResponse } from '../../api/cluster.js';
import type { Machine } from '../../api/fleet-transport.js';
import { mapLimited } from '../../api/map-limited.js';
import type { RemoteShell } from '../../api/remote-shell.js';
import type { ChangeRequest, UnitChange } from '../../api/unit-control.js';
import type { Clock } from '../../lib/clock.js';
import { reasonOf } from '../../lib/errors.js';
import { AT_ONCE } from './machine-answers.js';
import { type BootAge, doOnce, type MachineWork, workKey, type WorkResult } from './machine-requests.js';

/** What is left for the reply, in milliseconds. */
const RESERVE_MS = 1_500;

/** What the machines need to know of a request. */
export type MachineRequest = Omit<ChangeRequest, 'log' | 'warn'> & Partial<Pick<ChangeRequest, 'warn'>>;

/** A machine that is changed, and how old its boot was after the request came. */
export interface AgedMachine {
  machine: Machine;
  age: BootAge;
}

/** What each machine shall do. */
export interface SharedWork {
  /** Names the change among those of a request. */
  change: readonly string[];
  /** What is changed, for messages. */
  unit: string;
  work: string;
  /** How long each machine may take, in milliseconds, without `settleMs`; by default as long as the request has. */
  timeoutMs: number | undefined;
  /** How long a machine looks at the unit afterwards, in milliseconds. */
  settleMs: number;
}

/** What came of it on a machine; of a change only what is known when it was not made, or when that is not known. */
export type DoneOn<At> = { at: At; result: WorkResult } | { at: At; unmade: Unmade };
type Unmade = Omit<UnitChange, 'machine_id' | 'host'>;

/**
 * Has machines do work, at the same time on each, once for a request. Never rejects for one machine alone.
 * @throws ActionError `invalid_parameters` when the request has less time than `settleMs`; `outcome_unknown` when an earlier delivery of the request may have made the change, and cannot be recognized
 */
export async function onceOnMachines<At extends AgedMachine & Pick<MachineWork, 'args'>>(
  { shell, clock }: { shell: RemoteShell; clock: Clock },
  request: MachineRequest,
  { change, unit, work, settleMs, timeoutMs = Number.POSITIVE_INFINITY }: SharedWork,
  machines: readonly At[],
): Promise<DoneOn<At>[]> {
  const { repeated, signal, deadline, cluster } = request;
  if (repeated && request.key === undefined)
    throw new ActionError(
      'outcome_unknown',
      `A worker may have begun this change of ${unit} for an earlier delivery of the request, and nothing names the request: it is not made again`,
    );
  if (!repeated && deadline - clock.now() - RESERVE_MS < settleMs)
    throw new ActionError(
      'invalid_parameters',
      `Nothing was changed: ${unit} is to stay as it is for ${settleMs / 1_000} s, and the request ends before that`,
      { details: { fields: [{ field: 'settle_seconds', message: 'is longer than the request has' }] } },
    );
  const name = request.key ?? randomUUID();
  return mapLimited(machines, AT_ONCE, async (at): Promise<DoneOn<At>> => {
    const { machine, age, args } = at;
    const host = machine.primaryIP ?? '';
    const key = workKey(name, machine.id, ...change);
    const waitMs = Math.max(1_000, Math.min(timeoutMs + settleMs, deadline - clock.now() - RESERVE_MS));
    try {
      const given = { host, key, repeated, age, work, args };
      const startWithinMs = Math.max(1_000, waitMs - settleMs);
      const onResponse = () => noteResponse(cluster);
      const options = { signal, waitMs, startWithinMs, onResponse, clock };
      return { at, result: await doOnce(shell, given, options) };
    } catch (error) {
      return { at, unmade: unmade(error) };
    }
  });
}

function unmade(error: unknown): Unmade {
  const code = error instanceof ActionError ? error.code : 'cancelled';
  return {
    did: 'nothing',
    before: null,
    after: null,
    took_ms: 0,
    error: { code, message: reasonOf(error) },
  };
}
