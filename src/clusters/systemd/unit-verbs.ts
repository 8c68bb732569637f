import type { RemoteShell } from '../../api/remote-shell.js';
import type { UnitChange, UnitOrder } from '../../api/unit-control.js';
import type { Clock } from '../../lib/clock.js';
import { type AgedMachine, type DoneOn, type MachineRequest, onceOnMachines } from './once-on-machines.js';
import { propertiesIn } from './unit-properties.js';
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
  const settle = settles ? Math.ceil(settleMs / 1_000) : 0;
  const args = [unit, verb, String(settle)];
  const done = await onceOnMachines(
    parts,
    request,
    { change: [unit, verb], unit, work: VERB_WORK, timeoutMs, settleMs: settle * 1_000 },
    machines.map((each) => ({ ...each, args })),
  );
  if (settles) warnOfOldFile(request, unit, done);
  return done.map(({ at: { machine }, ...each }) => ({
    machine_id: machine.id,
    host: machine.primaryIP,
    ...('result' in each ? verbOutcome(unit, verb, each.result) : each.unmade),
  }));
}

/** systemd starts a unit with what it has read of its file, though somebody has changed that since. */
function warnOfOldFile({ warn }: MachineRequest, unit: string, done: readonly DoneOn<AgedMachine>[]): void {
  const hosts = done.flatMap(({ at: { machine }, ...each }) =>
    'result' in each && propertiesIn(each.result.after)?.get('NeedDaemonReload') === 'yes'
      ? [machine.primaryIP ?? machine.id]
      : [],
  );
  if (hosts.length > 0)
    warn?.(
      `${unit} has a newer file than systemd has read, so it runs with the old one, on ${hosts.slice(0, 5).join(', ')}${hosts.length > 5 ? ` and ${hosts.length - 5} more` : ''}: a daemon-reload on the machine, or a put of the file, lets systemd read it`,
    );
}
