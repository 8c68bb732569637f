import type { RemoteShell } from '../../api/remote-shell.js';
import type { UnitChange, UnitOrder } from '../../api/unit-control.js';
import type { Clock } from '../../lib/clock.js';
import { type AgedMachine, type MachineRequest, onceOnMachines } from './once-on-machines.js';
import { DESTROY_WORK } from './put-script.js';
import { endOf } from './work-end.js';
import { conditionOf, propertiesIn } from './unit-properties.js';
import type { WorkResult } from './machine-requests.js';

/** Stops a unit on machines, and removes its file. */
export async function destroyOn(
  parts: { shell: RemoteShell; clock: Clock },
  request: MachineRequest,
  { unit, timeoutMs }: Pick<UnitOrder, 'unit' | 'timeoutMs'>,
  machines: readonly AgedMachine[],
): Promise<UnitChange[]> {
  const done = await onceOnMachines(
    parts,
    request,
    { change: ['destroy', unit], unit, work: DESTROY_WORK, timeoutMs, settleMs: 0 },
    machines.map((each) => ({ ...each, args: [unit] })),
  );
  return done.map(({ at: { machine }, ...each }) => ({
    machine_id: machine.id,
    host: machine.primaryIP,
    ...('result' in each ? destroyOutcome(unit, each.result) : each.unmade),
  }));
}

function destroyOutcome(unit: string, result: WorkResult): Omit<UnitChange, 'machine_id' | 'host'> {
  const [before, after] = [propertiesIn(result.before), propertiesIn(result.after)];
  const proof = {
    before: before === undefined ? null : conditionOf(before),
    after: after === undefined ? null : conditionOf(after),
    took_ms: result.tookMs,
  };
  const failed = (code: string, message: string, did = 'nothing') => ({
    ...proof,
    did,
    error: { code, message },
  });
  const end = endOf(unit, result);
  if ('code' in end) return failed(end.code, end.message);
  if (end.status === 1)
    return failed('unit_did_not_stop', `${unit} did not stop, and its file is left: ${result.output}`);
  if (end.status === 2 || end.status === 6)
    return end.status === 6 || before?.get('LoadState') === 'not-found'
      ? failed('unit_not_found', `The machine has no unit ${unit}`)
      : failed(
          'unit_file_invalid',
          `${unit} has no file in the folder of the operator, so it is not removed: it is the distribution's, generated, transient, or an instance of a template`,
        );
  if (end.status === 3)
    return failed(
      'command_failed',
      `${unit} was stopped and disabled, and its file could not be removed: ${result.output}`,
      'stopped',
    );
  if (end.status === 4)
    return failed(
      'command_failed',
      `${unit} was not changed, as the machine cannot keep its file in /var/lib/fleet-manager: ${result.output}`,
    );
  if (end.status === 5)
    return failed(
      'unit_masked',
      `${unit} is masked on the machine, and has no file there: unmask it instead`,
    );
  if (end.status === 7)
    return failed(
      'unit_file_invalid',
      `${unit} is another name of a unit, so nothing was changed: remove that one, or the link`,
    );
  const active = after?.get('ActiveState') ?? 'inactive';
  if (active !== 'inactive' && active !== 'failed')
    return failed(
      'unit_did_not_stop',
      `The file of ${unit} was removed, and it is ${active}: something has started it again`,
      'removed',
    );
  const wasDown = ['inactive', 'failed', undefined].includes(before?.get('ActiveState'));
  return { ...proof, did: wasDown ? 'removed' : 'stopped and removed', error: null };
}
