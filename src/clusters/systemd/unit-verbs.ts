import type { RemoteShell } from '../../api/remote-shell.js';
import type { UnitChange, UnitOrder } from '../../api/unit-control.js';
import type { Clock } from '../../lib/clock.js';
import { type AgedMachine, type MachineRequest, onceOnMachines } from './once-on-machines.js';
import { VERB_WORK } from './verb-script.js';
import { verbOutcome } from './verb-outcome.js';

const SETTLE_MS = 2_000;

/** Carries out a verb of systemctl on machines. Never rejects for one machine alone. */
export async function changeOn(
  parts: { shell: RemoteShell; clock: Clock },
  request: MachineRequest,
  { unit, verb, settleMs = SETTLE_MS, timeoutMs }: UnitOrder,
  machines: readonly AgedMachine[],
): Promise<UnitChange[]> {
  if (verb === 'load' || verb === 'unload') throw new TypeError(`systemd has no verb ${verb}`);
  const settles = verb === 'start' || verb === 'restart' || verb === 'reload';
  const args = [unit, verb, settles ? String(Math.ceil(settleMs / 1_000)) : '0'];
  const done = await onceOnMachines(
    parts,
    request,
    { change: [unit, verb], unit, work: VERB_WORK, timeoutMs },
    machines.map((each) => ({ ...each, args })),
  );
  return done.map(({ at: { machine }, ...each }) => ({
    machine_id: machine.id,
    host: machine.primaryIP,
    ...('result' in each ? verbOutcome(unit, verb, each.result) : each.unmade),
  }));
}
