import { randomUUID } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import type { ExecutionContext } from 'ava';
import { withoutRowList } from '../../src/api/row-list.js';
import { type ClustersFile, readClustersFile } from '../../src/clusters/clusters-file.js';
import { componentsOf, OWN_PLUGINS, type ComponentsOptions } from '../../src/composition.js';
import type { Call } from '../../src/core/call.js';
import { CallEventBus } from '../../src/core/call-events.js';
import { loadPlugins } from '../../src/core/plugin-loader.js';
import { Runner } from '../../src/core/runner.js';
import { type Clock, systemClock } from '../../src/lib/clock.js';
import { fieldsOf } from '../../src/lib/fields-of.js';
import { FIELD_NAMES } from '../../src/rpc/field-names.js';
import { clusterSettings, sshSettings } from '../../src/sandbox/sandbox-settings.js';
import { startSandbox } from '../../src/sandbox/sandbox.js';
import { HUNG_MS } from '../support/eventually.js';
import { LeapingClock } from '../support/leaping-clock.js';
import { logLines } from '../support/log-lines.js';
import { callOf } from '../support/open-runner.js';
import { read } from '../support/settings.js';
import { pluginSettingsFrom } from '../../src/settings/plugin-settings.js';
import type { SystemdMachine, SystemdMachines } from '../support/systemd-machines.js';

/** What a caller gets. */
export interface Answer {
  /** `completed`, or the code of the error. */
  code: string;
  /** The result, or the text of the error. */
  body: unknown;
  /** Beside the result, or of the error. */
  details: unknown;
}

/** A cluster of some kind, with every action of the service, as its callers use it, and what really happens there. */
export interface AnyCluster {
  kind: 'fleet' | 'systemd';
  /** The ids of its machines: two or more. */
  machines: readonly string[];
  /** @param given `key` names the request, `repeated`: another worker may have begun it */
  call: (
    action: string,
    parameters?: object,
    given?: { key?: string; repeated?: boolean; timeoutMs?: number },
  ) => Promise<Answer>;
  /** The text of the file of a service that runs until it is stopped. */
  text: (name: string) => string;
  /** The text of one whose program fails; on fleet it is the name that fails from now on. */
  failingText: (name: string) => string;
  /** Adds a unit with this text, which `text` gives by default, running by default; on one machine, or on all. */
  add: (name: string, given?: { text?: string; isUp?: boolean; isEverywhere?: boolean }) => Promise<void>;
  /** How often it was started since it was added, on all machines together. */
  starts: (name: string) => Promise<number>;
  /** Whether it is up on some machine. */
  isUp: (name: string) => Promise<boolean>;
  /** From now on a machine that has every unit that is everywhere does not answer. @returns its host */
  hasSilentMachine: () => Promise<string>;
  /** Removes what is wrong with the cluster. */
  heal: () => Promise<void>;
}

type Teardown = Pick<ExecutionContext, 'teardown'>;
type World = Omit<AnyCluster, 'call'>;

/** Callers of a service with these clusters. */
async function callersOf(
  t: Teardown,
  { clusters, ssh, clock }: Pick<ComponentsOptions, 'clusters' | 'ssh'> & { clock: Clock },
  cluster: () => string,
): Promise<AnyCluster['call']> {
  const { log, find } = logLines();
  const { hostname, rpc, pluginSettings } = read({});
  const components = componentsOf({ clusters, ssh, hostname, log, clock });
  const catalogue = await loadPlugins({
    directories: [OWN_PLUGINS],
    parametersName: FIELD_NAMES.parameters,
    checkResults: true,
    resolve: components.port,
    settings: pluginSettingsFrom(pluginSettings),
    clock: systemClock,
  });
  const runner = new Runner({
    catalogue,
    events: new CallEventBus(log),
    names: FIELD_NAMES,
    clock,
    logFor: (fields) => log.with(fields),
    maxCalls: rpc.prefetch,
    concurrency: rpc.concurrency,
    clusterConcurrency: rpc.clusterConcurrency,
  });
  t.teardown(async () => {
    // With a clock that leaps it may never end.
    void runner.drain(0);
    await components.shell().close();
    await components.close();
  });
  return async (action, parameters, { key = randomUUID(), repeated = false, timeoutMs } = {}) => {
    const call: Call = callOf({
      id: randomUUID(),
      key,
      action,
      target: cluster(),
      parameters,
      timeoutMs: timeoutMs ?? catalogue.find(action)?.description.timeout_ms,
      ...(repeated && { delivery: 'repeated', mayBeCopy: true }),
    });
    const settled = await runner.run(call);
    const [wrong] = find(/does not match its schema/);
    if (wrong !== undefined) throw new Error(`${action}: ${JSON.stringify(wrong)}`);
    if (settled.status === 'released') throw new Error(`${action} was released`);
    return settled.status === 'completed'
      ? { code: 'completed', body: withoutRowList(settled.body), details: settled.details }
      : {
          code: settled.body.code,
          body: settled.body.errors.join('; '),
          details: settled.body.details,
        };
  };
}

const SLEEPS = '[Service]\nExecStart=/bin/sleep infinity\n';
const FAILS = '[Service]\nExecStart=/bin/false\n';

/** The sandbox with both of its clusters. */
async function sandboxOf(t: Teardown) {
  // As long as a simulated machine waits before it looks again.
  const clock = new LeapingClock({ leapMs: 100 });
  const sandbox = await startSandbox({
    clock,
    ssh: true,
    fleetHosts: ['127.0.0.1', '127.0.0.2'],
    delays: { change: 1_500, report: 500, linger: 1_000 },
    machines: ['a', 'b'].map((digit, index) => ({
      id: digit.repeat(32),
      primaryIP: `127.0.0.${index + 1}`,
      metadata: { number: String(index + 1) },
    })),
    units: [],
  });
  t.teardown(async () => sandbox.stop());
  const { ssh, systemd } = sandbox;
  const settings = sshSettings(sandbox);
  if (ssh === undefined || systemd === undefined || settings === undefined) throw new Error('no SSH');
  return {
    sandbox,
    clock,
    ssh,
    systemd,
    settings: { clusters: clusterSettings(sandbox), ssh: settings, clock },
  };
}

/** The sandbox's fleet cluster. */
export async function sandboxFleet(t: Teardown): Promise<AnyCluster> {
  const { sandbox, clock, ssh, settings } = await sandboxOf(t);
  const { cluster } = sandbox;
  const machines = cluster.machines.map(({ id }) => id);
  const [first = ''] = machines;
  const world: World = {
    kind: 'fleet',
    machines,
    text: () => SLEEPS,
    failingText: (name) => {
      cluster.behave(name, 'fails-at-start');
      return FAILS;
    },
    add: async (name, { text = SLEEPS, isUp = true, isEverywhere = false } = {}) => {
      const options = [...text.matchAll(/^(\w+)=(.*)$/gm)].map(([, key = '', value = '']) => ({
        section: 'Service',
        name: key,
        value,
      }));
      const place = isEverywhere ? { name: 'Global', value: 'true' } : { name: 'MachineID', value: first };
      cluster.addUnits([
        {
          name,
          options: [...options, { section: 'X-Fleet', ...place }],
          desiredState: isUp ? 'launched' : 'loaded',
        },
      ]);
    },
    starts: async (name) => cluster.starts(name),
    isUp: async (name) => machines.some((id) => cluster.unitOn(name, id)?.state[0] === 'active'),
    hasSilentMachine: async () => {
      const silent = cluster.machines.at(-1);
      const host = silent?.primaryIP ?? '';
      cluster.powerOff(silent?.id ?? '');
      ssh.fail({ kind: 'refuse', machine: host });
      cluster.fail({ kind: 'refuse', host });
      // fleet lists it until then.
      await clock.sleep(31_000);
      return host;
    },
    heal: async () => {},
  };
  return { ...world, call: await callersOf(t, settings, () => sandbox.token) };
}

/** The sandbox's cluster of plain systemd hosts. */
export async function sandboxSystemd(t: Teardown): Promise<AnyCluster> {
  const { systemd, ssh, settings } = await sandboxOf(t);
  const machines = systemd.machines.map(({ id }) => id);
  const [first = ''] = machines;
  const world: World = {
    kind: 'systemd',
    machines,
    text: () => SLEEPS,
    failingText: () => FAILS,
    add: async (name, { text = SLEEPS, isUp: started = true, isEverywhere = false } = {}) =>
      systemd.addUnits([{ name, text, started, machines: isEverywhere ? machines : [first] }]),
    starts: async (name) => systemd.history(name).filter(({ what }) => what === 'started').length,
    isUp: async (name) => systemd.states(name).some(({ active }) => active === 'active'),
    hasSilentMachine: async () => {
      const host = systemd.machines.at(-1)?.primaryIP ?? '';
      ssh.fail({ kind: 'refuse', machine: host });
      return host;
    },
    heal: async () => {
      for (const name of ['payments-import.service', 'seat-map.service']) {
        systemd.behave(name, 'well');
        const machine = systemd.machines.find(({ id }) => systemd.file(name, id) !== undefined)?.id ?? '';
        const text = systemd.file(name, machine) ?? '';
        systemd.addUnits([{ name, text, enabled: true, machines: [machine] }]);
      }
    },
  };
  return { ...world, call: await callersOf(t, settings, () => systemd.name) };
}

/** A cluster of machines with systemd, which several tests may share: each with units of its own. */
export async function realSystemd(t: Teardown, { machines, env }: SystemdMachines): Promise<AnyCluster> {
  const [first] = machines;
  if (first === undefined) throw new Error('boot a machine');
  const clusters: ComponentsOptions['clusters'] & { listed: ClustersFile } = {
    ...read({}).clusters,
    file: undefined,
    allowedHosts: ['10.64.0.0/10', '127.0.0.0/8'],
    listed: inventoryOf(machines),
  };
  const ssh: ComponentsOptions['ssh'] = {
    ...read({}).ssh,
    user: env.SSH_USER,
    port: Number(env.SSH_PORT),
    privateKey: await readFile(env.SSH_KEY_FILE),
    knownHostsFile: env.SSH_KNOWN_HOSTS,
    hostKeys: 'strict',
    sudo: true,
  };
  let name = 'lab';
  const call = await callersOf(t, { clusters, ssh, clock: systemClock }, () => name);
  const onEach = async (script: string, on: readonly SystemdMachine[] = machines) =>
    Promise.all(on.map(async (machine) => machine.run(script)));
  const text = (unit: string) =>
    `[Service]\nExecStartPre=/bin/sh -c 'echo start >>/var/starts-${unit}'\nExecStart=/bin/sleep infinity\n`;
  return {
    kind: 'systemd',
    machines: machines.map(({ machine }) => machine.id),
    call: async (action, parameters, given = {}) =>
      call(action, parameters, { ...given, timeoutMs: given.timeoutMs ?? HUNG_MS }),
    text,
    failingText: () => FAILS,
    add: async (unit, { text: given = text(unit), isUp = true, isEverywhere = false } = {}) => {
      const start = isUp ? `systemctl start ${unit}; rm -f /var/starts-${unit}` : '';
      await onEach(
        `cat >/etc/systemd/system/${unit} <<'END'\n${given}END\nsystemctl daemon-reload\n${start}`,
        isEverywhere ? machines : [first],
      );
    },
    starts: async (unit) => {
      const counts = await onEach(`cat /var/starts-${unit} 2>/dev/null | wc -l`);
      return counts.reduce((sum, count) => sum + Number(count), 0);
    },
    isUp: async (unit) => {
      const states = await onEach(`systemctl is-active ${unit} || true`);
      return states.some((state) => state.trim() === 'active');
    },
    hasSilentMachine: async () => {
      name = 'lab-and-silent';
      return SILENT;
    },
    heal: async () => {},
  };
}

/** Nothing listens at the SSH port of this loopback address. */
const SILENT = '127.9.9.9';

function inventoryOf(machines: readonly SystemdMachine[]): ClustersFile {
  const hosts = machines.map(({ address: host }, index) => ({
    host,
    metadata: { number: String(index + 1) },
  }));
  const text = JSON.stringify({
    lab: { kind: 'systemd', machines: hosts },
    'lab-and-silent': { kind: 'systemd', machines: [...hosts, { host: SILENT, port: 1 }] },
  });
  return readClustersFile(text, 1);
}

/** What was done on each machine. */
export function changesIn({ body, details }: Answer): Record<string, unknown>[] {
  const { changes = fieldsOf(details).changes } = fieldsOf(body);
  return Array.isArray(changes) ? changes.map(fieldsOf) : [];
}
