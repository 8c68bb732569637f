import { randomUUID } from 'node:crypto';
import { ActionError } from '../../api/action-error.js';
import type { Machine } from '../../api/fleet-transport.js';
import { mapLimited } from '../../api/map-limited.js';
import type { RemoteShell } from '../../api/remote-shell.js';
import type { ChangeRequest, UnitChange, UnitOrder } from '../../api/unit-control.js';
import type { Clock } from '../../lib/clock.js';
import { reasonOf } from '../../lib/errors.js';
import { type BootAge, doOnce, workKey } from './machine-requests.js';
import { VERB_WORK } from './verb-script.js';
import { verbOutcome } from './verb-outcome.js';

/** How many machines are changed at the same time. */
const AT_ONCE = 64;
const SETTLE_MS = 2_000;
/** What is left for the reply, in milliseconds. */
const RESERVE_MS = 1_500;

/** What the machines need to know of a request. */
export type MachineRequest = Omit<ChangeRequest, 'log' | 'warn'>;

/** A machine on which a unit is changed, and how old its boot was after the request came. */
export interface AgedMachine {
  machine: Machine;
  age: BootAge;
}

/** Carries out a verb of systemctl on machines, at the same time on each, once for a request. Never rejects for one machine alone. */
export async function onMachines(
  { shell, clock }: { shell: RemoteShell; clock: Clock },
  request: MachineRequest,
  { unit, verb, settleMs = SETTLE_MS, timeoutMs }: UnitOrder,
  machines: readonly AgedMachine[],
): Promise<UnitChange[]> {
  if (verb === 'load' || verb === 'unload') throw new TypeError(`systemd has no verb ${verb}`);
  requireKey(request, unit);
  const name = request.key ?? randomUUID();
  const settles = verb === 'start' || verb === 'restart' || verb === 'reload';
  const settle = settles ? String(Math.ceil(settleMs / 1_000)) : '0';
  return mapLimited(machines, AT_ONCE, async ({ machine, age }) => {
    const { id, primaryIP: host } = machine;
    const of = { machine_id: id, host };
    const key = workKey(name, id, unit, verb);
    const waitMs = waitMsOf(request, timeoutMs, clock);
    try {
      const result = await doOnce(
        shell,
        {
          host: host ?? '',
          key,
          repeated: request.repeated,
          age,
          work: VERB_WORK,
          args: [unit, verb, settle],
        },
        { signal: request.signal, waitMs, clock },
      );
      return { ...of, ...verbOutcome(unit, verb, result) };
    } catch (error) {
      return { ...of, ...notMade(error) };
    }
  });
}

/** @throws ActionError when an earlier delivery of the request may have made the change, and cannot be recognized */
export function requireKey({ repeated, key }: MachineRequest, unit: string): void {
  if (repeated && key === undefined)
    throw new ActionError(
      'outcome_unknown',
      `A worker may have begun this change of ${unit} for an earlier delivery of the request, and nothing names the request: it is not made again`,
    );
}

/** How long a machine may take, in milliseconds. */
export function waitMsOf({ deadline }: MachineRequest, timeoutMs: number | undefined, clock: Clock): number {
  return Math.max(
    1_000,
    Math.min(timeoutMs ?? Number.POSITIVE_INFINITY, deadline - clock.now() - RESERVE_MS),
  );
}

/** The part of a change that is not known, or was not made. */
export function notMade(error: unknown): Omit<UnitChange, 'machine_id' | 'host'> {
  const code = error instanceof ActionError ? error.code : 'cancelled';
  return {
    did: 'nothing',
    before: null,
    after: null,
    took_ms: 0,
    error: { code, message: reasonOf(error) },
  };
}
