import type { Clock } from '../lib/clock.js';
import type { Machine } from '../api/fleet-transport.js';
import { UNIT_CHECK_SCRIPT } from '../api/unit-check-script.js';
import { INSPECTION_SCRIPT } from '../api/unit-inspection-script.js';
import { REQUEST_SCRIPT } from '../clusters/systemd/request-script.js';
import { VERB_WORK } from '../clusters/systemd/verb-script.js';
import type { MachineSystemd } from './cluster.js';
import { fleetSystemctl } from './fleet-systemctl.js';
import { fileText, runCommand } from './machine-commands.js';
import { type InspectionSource, runInspection } from './simulated-inspection.js';
import { mainPid } from './simulated-journal.js';
import { type MachineCondition, simulatedMachine } from './simulated-machine.js';
import { fleetFiles, listUnits, type MachineUnits, unitCheck } from './simulated-units.js';
import type { CommandMachine } from './ssh-server.js';
import { MachineRequests } from './systemd/request-output.js';
import { changeUnit, type RequestMachine } from './systemd/request-work.js';

interface FleetMachineOptions {
  source: InspectionSource & MachineUnits;
  systemd: MachineSystemd;
  clock: Clock;
  condition: Partial<MachineCondition> | undefined;
}

const LIST_UNITS = 'list-units --all --full --plain --no-legend --no-pager';

/** A machine of a simulated fleet cluster, for commands. @param condition by default it is healthy */
export function fleetMachine(
  { id, primaryIP }: Machine,
  { source, systemd, clock, condition }: FleetMachineOptions,
): CommandMachine {
  const machine = simulatedMachine(id, clock.wallTime(), condition);
  const wallTime = () => clock.wallTime() - (clock.now() - systemd.now());
  const text = (path: string) => fileText(path, machine, wallTime()) ?? '';
  const worker: RequestMachine = {
    get now() {
      return systemd.now();
    },
    get wallTime() {
      return wallTime();
    },
    text,
    hundredths: () => (text('/proc/uptime').split(' ', 1)[0] ?? '').replace('.', ''),
    systemctl: (args) =>
      fleetSystemctl(args, { systemd, mainPID: (unit) => mainPid(unit, machine, systemd.starts(unit)) }),
    messages: () => [],
    runOn: (steps) => systemd.runOn(steps),
    runDue: () => systemd.runDue(),
  };
  const requests = new MachineRequests(
    worker,
    new Map([[VERB_WORK, (files, args) => changeUnit(worker, files, args)]]),
  );
  return {
    id,
    address: primaryIP,
    run: (argv, { sudo }) => {
      const context = { source, now: clock.wallTime() };
      const [program, flag, script, , ...given] = argv;
      if (program === 'sh' && flag === '-c') {
        if (script === REQUEST_SCRIPT) return requests.run(given, { isRoot: sudo });
        if (script === UNIT_CHECK_SCRIPT) return unitCheck(source.unitsOn(id));
        if (script === INSPECTION_SCRIPT) return runInspection(given, machine, context);
      }
      const line = argv.slice(1).join(' ');
      if (program === 'systemctl' && line === LIST_UNITS) return listUnits(source.unitsOn(id));
      if (program === 'ls' && line === '-A /run/fleet/units') return fleetFiles(source.unitsOn(id));
      return runCommand(argv, machine, context);
    },
  };
}
