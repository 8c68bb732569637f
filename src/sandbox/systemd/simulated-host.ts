import type { Clock } from '../../lib/clock.js';
import { LIST_FILES_SCRIPT, READ_FILE_SCRIPT } from '../../clusters/systemd/file-scripts.js';
import { CHECK_FILES_SCRIPT, DESTROY_WORK, PUT_WORK } from '../../clusters/systemd/put-script.js';
import { REQUEST_SCRIPT } from '../../clusters/systemd/request-script.js';
import { VERB_WORK } from '../../clusters/systemd/verb-script.js';
import { SURVEY_SCRIPT } from '../../clusters/systemd/survey-script.js';
import type { Machine, UnitState } from '../../api/fleet-transport.js';
import type { CommandSteps } from '../command-steps.js';
import { CHECKED_PROPERTIES, UNIT_CHECK_SCRIPT } from '../../api/unit-check-script.js';
import { INSPECTED_PROPERTIES, INSPECTION_SCRIPT } from '../../api/unit-inspection-script.js';
import { fileText, runCommand } from '../machine-commands.js';
import { inspectionOutput } from '../simulated-inspection.js';
import { type JournalSource, runJournalctl } from '../simulated-journal.js';
import {
  type CommandResult,
  type MachineCondition,
  type SimulatedMachine,
  simulatedMachine,
} from '../simulated-machine.js';
import type { UnitHistory } from '../unit-history.js';
import { fileCheckOutput } from './file-check-output.js';
import { destroyUnit, putFiles } from './put-work.js';
import { MachineRequests } from './request-output.js';
import { changeUnit, type RequestMachine, type Work } from './request-work.js';
import type { MachineTimes } from './shown-properties.js';
import { SimulatedSystemd, type UnitMessage } from './simulated-systemd.js';
import { surveyOutput } from './survey-output.js';
import { systemctl, type SystemctlContext } from './systemctl.js';
import { fileListOutput, fileReadOutput } from './unit-file-output.js';
import { UnitFolders } from './unit-folders.js';

const DISTRIBUTION_FOLDER = /^(?:\/usr)?\/lib\//;

export interface SimulatedHostOptions {
  machine: Machine;
  clock: Pick<Clock, 'now' | 'wallTime'>;
  history: UnitHistory;
  condition?: Partial<MachineCondition>;
  stopMs: number;
}

/** A simulated machine with systemd and without fleet: what it prints for a command. */
export class SimulatedHost implements RequestMachine {
  readonly machine: Machine;
  readonly systemd: SimulatedSystemd;
  readonly #clock: Pick<Clock, 'now' | 'wallTime'>;
  readonly #simulated: SimulatedMachine;
  readonly #requests = new MachineRequests(
    this,
    new Map<string, Work>([
      [VERB_WORK, (files, args) => changeUnit(this, files, args)],
      [PUT_WORK, (files, args) => putFiles(this, files, args)],
      [DESTROY_WORK, (files, args) => destroyUnit(this, files, args)],
    ]),
  );

  constructor({ machine, clock, history, condition, stopMs }: SimulatedHostOptions) {
    this.machine = machine;
    this.#clock = clock;
    this.#simulated = simulatedMachine(machine.id, clock.wallTime(), condition);
    this.systemd = new SimulatedSystemd({
      machineID: machine.id,
      clock,
      folders: new UnitFolders(),
      history,
      stopMs,
    });
  }

  get id(): string {
    return this.machine.id;
  }

  get address(): string | null {
    return this.machine.primaryIP;
  }

  /** In milliseconds of the clock. */
  get now(): number {
    return this.systemd.now;
  }

  /** Milliseconds since the epoch. */
  get wallTime(): number {
    return this.#wall(this.now);
  }

  /** When it was booted, in milliseconds of the clock. */
  get bootedAt(): number {
    return this.#clock.now() - (this.#clock.wallTime() - this.#simulated.bootedAt);
  }

  get context(): Omit<SystemctlContext, 'isRoot'> {
    const times: MachineTimes = {
      monotonic: (at) => Math.round((this.#wall(at) - this.#simulated.bootedAt) * 1_000),
      wall: (at) => this.#wall(at),
    };
    return { systemd: this.systemd, times };
  }

  /** What a file of the kernel contains. */
  text(path: string): string {
    return fileText(path, this.#simulated, this.wallTime) ?? '';
  }

  /** In seconds, as in `/proc/uptime`. */
  uptime(): string {
    return this.text('/proc/uptime').split(' ', 1)[0] ?? '';
  }

  /** The uptime in hundredths of a second. */
  hundredths(): string {
    return this.uptime().replace('.', '');
  }

  listUnits(): string {
    const steps = systemctl(['list-units', '--all', '--full', '--plain', '--no-legend'], {
      ...this.context,
      isRoot: false,
    });
    const { value } = steps.next();
    return typeof value === 'object' ? (value.stdout ?? '') : '';
  }

  systemctl(args: readonly string[]): CommandSteps {
    return systemctl(args, { ...this.context, isRoot: true });
  }

  messages(unit: string): UnitMessage[] {
    return this.systemd.messages(unit);
  }

  runOn(steps: Generator<number, void>): void {
    this.systemd.runOn(steps);
  }

  runDue(): void {
    this.systemd.runDue();
  }

  /** @returns undefined for a command that it does not know */
  run(argv: readonly string[], { sudo }: { sudo: boolean }): CommandResult | CommandSteps | undefined {
    this.systemd.runDue();
    const [program, ...args] = argv;
    if (program === 'systemctl') return systemctl(args, { ...this.context, isRoot: sudo });
    const [flag, script, , ...given] = args;
    if (program === 'sh' && flag === '-c') {
      if (script === SURVEY_SCRIPT) return surveyOutput(this, given);
      if (script === CHECK_FILES_SCRIPT) return fileCheckOutput(this, given);
      if (script === READ_FILE_SCRIPT) return fileReadOutput(this, given);
      if (script === LIST_FILES_SCRIPT) return fileListOutput(this, given);
      if (script === UNIT_CHECK_SCRIPT) return this.#checked();
      if (script === INSPECTION_SCRIPT) return this.#inspected(given);
      if (script === REQUEST_SCRIPT) return this.#requests.run(given, { isRoot: sudo });
    }
    return runCommand(argv, this.#simulated, { source: this.#journal, now: this.wallTime });
  }

  /** What `systemctl show` prints of these properties of a unit. */
  shown(unit: string, properties: string): string {
    const steps = systemctl(['show', `--property=${properties}`, '--', unit], {
      ...this.context,
      isRoot: false,
    });
    const { value } = steps.next();
    return typeof value === 'object' ? (value.stdout ?? '') : '';
  }

  /** What `UNIT_CHECK_SCRIPT` prints, which looks at no unit again: no time passes while a simulated program runs. */
  #checked(): CommandResult {
    const { systemd } = this;
    const isOperators = (name: string) =>
      !DISTRIBUTION_FOLDER.test(systemd.folders.fragmentOf(name)?.path ?? '/lib/systemd/system/none');
    const names = [...systemd.loaded().keys()].filter(isOperators);
    const blocks = names.map((name) => this.shown(name, CHECKED_PROPERTIES.join(',')));
    return { status: 0, stdout: blocks.map((block) => `${block}\n`).join('') };
  }

  #inspected(given: readonly string[]): CommandResult | undefined {
    const show = (unit: string) => this.shown(unit, INSPECTED_PROPERTIES.join(','));
    const context = { source: this.#journal, now: this.wallTime };
    return inspectionOutput(given, show, (args) => runJournalctl(args, this.#simulated, context));
  }

  /** What the journal is made from. */
  get #journal(): JournalSource {
    const { systemd, id } = this;
    return {
      unit: (name) => ({
        name,
        options: [...systemd.unit(name).settings.options],
        desiredState: 'launched',
        currentState: 'launched',
        machineID: id,
      }),
      states: () =>
        [...systemd.loaded().values()].map(
          (unit): UnitState => ({
            name: unit.name,
            hash: null,
            machineID: id,
            systemdLoadState: unit.settings.load,
            systemdActiveState: unit.active,
            systemdSubState: unit.sub,
          }),
        ),
      flaps: (name) => systemd.unit(name).sub === 'auto-restart' || systemd.unit(name).restarts > 0,
      messages: (name) => systemd.messages(name),
    };
  }

  #wall(at: number): number {
    return this.#clock.wallTime() - (this.#clock.now() - at);
  }
}
