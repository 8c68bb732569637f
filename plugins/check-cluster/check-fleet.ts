import type { Machine, UnitState } from '../../src/plugin.js';
import { type AskedMachines, askMachines, type MachineReport, type MachineToAsk } from './ask-machines.js';
import type { CheckContext } from './check-context.js';
import { clockFindings } from './clock-findings.js';
import { conditionsOf } from './conditions.js';
import { diskFindings } from './disk-findings.js';
import type { Finding } from './finding.js';
import { hostFindings, isAddress, machinesWithoutAddress } from './host-findings.js';
import { type KnownUnit, knownUnit } from './known-unit.js';
import { fleetGhosts, runningWithoutFile } from './left-behind.js';
import { isRefusal, notAnswering, notListed, unreadableParts } from './machine-findings.js';
import { missingStates } from './missing-states.js';
import { outdatedUnits } from './outdated-units.js';
import { readList } from './read-lists.js';
import { unitFindings } from './unit-findings.js';
import { launchedNowhere, unsatisfiable, wantedAndNotActive } from './wanted-units.js';

/** Checks a cluster of fleet: its hosts, what fleet lists, and what the machines say by SSH where they let the service in. */
export async function checkFleet(context: CheckContext): Promise<Finding[]> {
  const { cluster, fleet, signal, timeMs } = context;
  // The other half is for the lists and the machines.
  const report = await fleet.hosts(cluster, { signal, timeoutMs: Math.floor(timeMs / 2) });
  const { unlisted, ...hosts } = report;
  // Without a host that answers, nothing else can be read.
  if (report.hosts.every(({ failure }) => failure !== undefined))
    return [...hostFindings(hosts), ...unlisted.map((host) => notListed(host, undefined))];
  const machines = await readList('machines', context, async (of, ...rest) => of.machines(...rest));
  const [units, states, asked] = await Promise.all([
    readList('units', context, async (of, ...rest) => (await of.units(...rest)).map(knownUnit)),
    readList('states', context, async (of, ...rest) => of.unitStates(...rest)),
    askMachines(machinesToAsk(machines.rows ?? [], unlisted), context),
  ]);
  const isLetIn = asked.reports.length > 0 || !asked.silent.every(isRefusal);
  if (!isLetIn) warnOfRefusals(asked, context.warn);
  const heard = isLetIn ? asked : undefined;
  return [
    ...hostFindings(hosts),
    ...unlisted.map((host) => notListed(host, heard)),
    ...machines.findings,
    ...machinesWithoutAddress(machines.rows ?? []),
    ...units.findings,
    ...states.findings,
    // Of a host that is not listed, that says so already.
    ...(heard?.silent ?? []).filter(({ id }) => id !== null).map(notAnswering),
    ...unreadableParts(asked.reports),
    ...findingsOf({
      reports: asked.reports,
      machines: machines.rows,
      units: units.rows,
      states: states.rows,
      hasAllUnits: units.isWhole && machines.isWhole,
    }),
  ];
}

function machinesToAsk(machines: readonly Machine[], unlisted: readonly string[]): MachineToAsk[] {
  return [
    ...machines.flatMap(({ id, primaryIP }) => (isAddress(primaryIP) ? [{ id, host: primaryIP }] : [])),
    ...unlisted.map((host) => ({ id: null, host })),
  ];
}

/** Once, and no finding: the cluster need not have anything wrong because the service has no login there. */
function warnOfRefusals({ silent: [first] }: AskedMachines, warn: (text: string) => void): void {
  if (first === undefined) return;
  warn(
    `No machine of the cluster lets the service in by SSH, so only what fleet lists was checked (${first.error.message}). For the rest the service needs a key that the machines accept (SSH_KEY_FILE), and their host keys (SSH_KNOWN_HOSTS)`,
  );
}

interface Readings {
  reports: readonly MachineReport[];
  /** Undefined: the list could not be read. */
  machines: readonly Machine[] | undefined;
  units: readonly KnownUnit[] | undefined;
  states: readonly UnitState[] | undefined;
  hasAllUnits: boolean;
}

function findingsOf({ reports, machines, units, states, hasAllUnits }: Readings): Finding[] {
  const addresses = new Map(
    (machines ?? []).flatMap(({ id, primaryIP }) => (primaryIP === null ? [] : [[id, primaryIP] as const])),
  );
  const conditions = conditionsOf(reports, states ?? [], addresses);
  const names = new Set(units?.map(({ name }) => name));
  return [
    // What is missing in a list is not missing in the cluster.
    ...(units && states ? missingStates(units, states, machines, conditions) : []),
    ...(units && machines ? unsatisfiable(units, machines) : []),
    ...unitFindings(conditions),
    ...(units && states ? launchedNowhere(units, conditions, machines) : []),
    ...(units ? wantedAndNotActive(conditions, names) : []),
    ...outdatedUnits(units ?? [], states ?? [], conditions, addresses),
    ...(units && machines && hasAllUnits
      ? fleetGhosts(units, states ?? [], reports, { machines, addresses })
      : []),
    ...runningWithoutFile(conditions),
    ...diskFindings(reports),
    ...clockFindings(reports),
  ];
}
