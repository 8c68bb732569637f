import type { Clock } from '../../lib/clock.js';
import { isTemplateName, isUnitName } from '../../api/grammar.js';
import type { Machine } from '../../api/fleet-transport.js';
import type { MachineCondition } from '../simulated-machine.js';
import { type UnitEvent, UnitHistory } from '../unit-history.js';
import { installDistribution } from './distribution-units.js';
import type { LoadedUnit } from './loaded-unit.js';
import { SimulatedHost } from './simulated-host.js';
import type { HostUnitBehaviour } from './simulated-systemd.js';
import { OPERATOR_FOLDER } from './unit-folders.js';

/** A unit of the operator, on machines with systemd and without fleet. */
export interface SandboxHostUnit {
  /** A template has no states, only its instances do. */
  name: string;
  /** The text of its file; undefined: it is an instance, whose template has a file. */
  text?: string;
  /** The path of its file; by default it is in `/etc/systemd/system`. */
  path?: string;
  /** Whether it is enabled for `multi-user.target`, or what its file names instead; false by default. */
  enabled?: boolean;
  /** Whether it runs; true by default, but a template does not. */
  started?: boolean;
  behaviour?: HostUnitBehaviour;
  /** The ids or addresses of its machines; by default all. */
  machines?: readonly string[];
}

/** What a machine knows of a unit. */
export interface HostUnitState {
  machineID: string;
  /** `loaded`, `not-found`, `masked`, `bad-setting`, `error`. */
  load: string;
  active: string;
  sub: string;
  /** How it ended last. */
  result: string;
  /** Another one for each start; empty: none that systemd remembers. */
  invocationID: string;
  /** How often systemd has restarted it by itself since somebody did. */
  restarts: number;
  enabled: boolean;
}

export interface SystemdClusterSetup {
  name: string;
  clock: Pick<Clock, 'now' | 'wallTime'>;
  machines: readonly Machine[];
  units: readonly SandboxHostUnit[];
  conditions: ReadonlyMap<string, Partial<MachineCondition>>;
  /** How long a program takes to stop, in milliseconds. */
  stopMs: number;
}

/** A simulated cluster of plain systemd hosts. */
export class SystemdCluster {
  /** What callers send as `etcd_token`. */
  readonly name: string;
  readonly #hosts: readonly SimulatedHost[];
  readonly #history = new UnitHistory();

  constructor({ name, clock, machines, units, conditions, stopMs }: SystemdClusterSetup) {
    this.name = name;
    this.#hosts = machines.map((machine) => {
      const condition = { os: 'debian' as const, ...conditions.get(machine.id) };
      const host = new SimulatedHost({ machine, clock, history: this.#history, condition, stopMs });
      installDistribution(host.systemd, host.bootedAt);
      return host;
    });
    this.addUnits(units);
  }

  get machines(): Machine[] {
    return structuredClone(this.#hosts.map(({ machine }) => machine));
  }

  /** For the SSH server. */
  get hosts(): readonly SimulatedHost[] {
    return this.#hosts;
  }

  /**
   * Adds units that are already in their state, or replaces their files, which are read at once.
   * @throws TypeError for a name that is none, or a machine that is not there
   */
  addUnits(units: readonly SandboxHostUnit[]): void {
    for (const unit of units) {
      const { name, text, path = `${OPERATOR_FOLDER}/${name}`, behaviour } = unit;
      if (!isUnitName(name) && !isTemplateName(name)) throw new TypeError(`'${name}' is no name of a unit`);
      if (behaviour !== undefined) this.behave(name, behaviour);
      for (const { systemd, bootedAt } of this.#hostsOf(unit.machines)) {
        if (text !== undefined) systemd.folders.write(path, text);
        const file = systemd.folders.fragmentOf(name);
        if (file === undefined)
          throw new TypeError(`give the text of ${name}, or that of its template before`);
        if (unit.enabled === true) enable(systemd.unit(name), file.path, systemd.folders);
        systemd.daemonReload();
        const isStarted = unit.started ?? !isTemplateName(name);
        if (isStarted) systemd.adopt(name, { at: bootedAt + BOOT_MS });
      }
    }
  }

  /** Removes the file of a unit, and what enables it, and has systemd read its files again. What runs goes on. */
  removeUnit(name: string, { machines }: { machines?: readonly string[] } = {}): void {
    for (const { systemd } of this.#hostsOf(machines)) {
      const path = systemd.folders.fragmentOf(name)?.path;
      for (const each of [path, ...systemd.folders.enablingLinks(name)])
        if (each !== undefined) systemd.folders.remove(each);
      systemd.daemonReload();
    }
  }

  /** The text of the file of a unit on a machine; undefined: it has none. */
  file(name: string, machine: string): string | undefined {
    const [host] = this.#hostsOf([machine]);
    const path = host?.systemd.folders.fragmentOf(name)?.path;
    return path === undefined ? undefined : host?.systemd.folders.textAt(path);
  }

  /** What the machines know of a unit, in their order. */
  states(name: string): HostUnitState[] {
    return this.#hosts.map(({ id, systemd }) => {
      const { settings, active, sub, result, invocationID, restarts } = systemd.unit(name);
      const enabled = systemd.folders.enablingLinks(name).length > 0;
      return { machineID: id, load: settings.load, active, sub, result, invocationID, restarts, enabled };
    });
  }

  /** Sets what the program of a unit does from its next start on; `well`: what its file says. */
  behave(
    name: string,
    behaviour: HostUnitBehaviour | 'well',
    { machines }: { machines?: readonly string[] } = {},
  ): void {
    for (const { systemd } of this.#hostsOf(machines)) systemd.behave(name, behaviour);
  }

  /** What really happened to the unit, oldest first. Units that are added running have no start. */
  history(name: string): UnitEvent[] {
    for (const { systemd } of this.#hosts) systemd.runDue();
    return this.#history.of(name).toSorted((one, other) => one.at - other.at);
  }

  #hostsOf(names: readonly string[] | undefined): readonly SimulatedHost[] {
    if (names === undefined) return this.#hosts;
    return names.map((name) => {
      const host = this.#hosts.find(({ machine: { id, primaryIP } }) => name === id || name === primaryIP);
      if (host === undefined) throw new TypeError(`${this.name} has no machine ${name}`);
      return host;
    });
  }
}

/** How long after a boot units are started, in milliseconds. */
const BOOT_MS = 20_000;

function enable(
  { name, settings }: LoadedUnit,
  file: string,
  folders: SimulatedHost['systemd']['folders'],
): void {
  const by = settings.install.find(({ name: key }) => key === 'WantedBy')?.unit ?? 'multi-user.target';
  folders.link(`${OPERATOR_FOLDER}/${by}.wants/${name}`, file);
}
