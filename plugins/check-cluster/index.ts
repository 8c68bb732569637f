import { isIP } from 'node:net';
import { array, object, string } from 'yup';
import {
  ActionError,
  Clock,
  type ClusterHostsReport,
  defineAction,
  FleetTransport,
  type ListOptions,
  type Machine,
  timeForParts,
  type Unit,
  unitsWithoutState,
  type UnitWithoutState,
  withTimeLimit,
} from '../../src/plugin.js';

/** The most machines that a finding names. */
const MOST_NAMED = 5;

interface Finding {
  severity: 'error' | 'warning';
  kind: string;
  subject: string;
  message: string;
  advice: string;
}

export default defineAction({
  name: 'check_cluster',
  summary: 'Checks a cluster and lists what is wrong; a healthy cluster has no findings.',
  target: 'cluster',
  effect: 'read',
  parameters: object({}),
  result: array(
    object({
      severity: string()
        .oneOf(['error', 'warning'] as const)
        .required()
        .meta({ description: 'error: something does not work; warning: something may be wrong.' }),
      kind: string().required().meta({
        description:
          'host_not_answering, machine_not_listed, member_invalid, machine_without_address, list_unreadable, list_incomplete, or state_missing.',
      }),
      subject: string().required().meta({ description: 'The host, member, machine or unit, or the list.' }),
      message: string().required().meta({ description: 'What is wrong.' }),
      advice: string().required().meta({ description: 'What to do about it.' }),
    }),
  )
    .required()
    .meta({ display: 'records', description: 'The findings, the hosts first.' }),
  inject: { fleet: FleetTransport, clock: Clock },

  async handle({ cluster, signal: call, deadline }, { fleet, clock }) {
    const timeMs = timeForParts(deadline - clock.now());
    const endsAt = clock.now() + timeMs;
    // The other half is for the lists.
    const report = await fleet.hosts(cluster, { signal: call, timeoutMs: Math.floor(timeMs / 2) });
    const findings = hostFindings(report);
    // Without a host that answers, nothing else can be read.
    if (report.hosts.every(({ failure }) => failure !== undefined)) return findings;
    const read = async <Row>(list: string, rows: (options: ListOptions) => Promise<Row[]>) => {
      const warn = (text: string) => findings.push(incompleteList(list, text));
      const ms = Math.max(0, endsAt - clock.now());
      const message = 'it could not be read within the time of the request';
      try {
        return await withTimeLimit({ ms, message, clock, signal: call }, async (signal) =>
          rows({ signal, warn }),
        );
      } catch (error) {
        call.throwIfAborted();
        if (!(error instanceof ActionError)) throw error;
        findings.push(unreadableList(list, error.message));
        return undefined;
      }
    };
    const machines = await read('machines', async (options) => fleet.machines(cluster, options));
    findings.push(...(machines ?? []).filter(hasNoAddress).map(machineWithoutAddress));
    const units = await read('units', async (options) =>
      (await fleet.units(cluster, options)).map(withRequirements),
    );
    const states = await read('states', async (options) => fleet.unitStates(cluster, options));
    if (units === undefined || states === undefined) return findings;
    // Without the machines, it is not known on which of them a global unit should run.
    return [...findings, ...unitsWithoutState(units, states, machines ?? []).map(missingState)];
  },
});

/** A unit without the rest of its file, so that the files of a large cluster are not held while its states are read. */
function withRequirements(unit: Unit): Unit {
  return { ...unit, options: unit.options.filter(({ section }) => section === 'X-Fleet') };
}

function hostFindings({ hosts, unlisted, ignored, moreIgnored }: ClusterHostsReport): Finding[] {
  return [
    ...hosts.flatMap(({ host, failure }) => (failure === undefined ? [] : [failingHost(host, failure)])),
    ...unlisted.map(unlistedHost),
    ...ignored.map(invalidMember),
    ...(moreIgnored > 0 ? [invalidMember(`${moreIgnored} more`)] : []),
  ];
}

function failingHost(host: string, failure: string): Finding {
  return {
    severity: 'error',
    kind: 'host_not_answering',
    subject: host,
    message: `The fleet API at ${host} does not answer as it should: ${failure}`,
    advice:
      "Look at fleet.service and the network on this host, and whether a proxy or another program has fleet's port there. Remove the member from discovery when the machine will not return.",
  };
}

function hasNoAddress({ primaryIP }: Machine): boolean {
  return primaryIP === null || isIP(primaryIP) === 0;
}

function machineWithoutAddress({ id, primaryIP }: Machine): Finding {
  const address = primaryIP === null ? 'no address' : `the invalid address ${JSON.stringify(primaryIP)}`;
  return {
    severity: 'error',
    kind: 'machine_without_address',
    subject: id,
    message: `fleet lists ${address} for the machine ${id}, so nothing can be read from it by SSH`,
    advice: 'Set public_ip in the configuration of fleet on this machine, and restart fleet.service there.',
  };
}

function unlistedHost(host: string): Finding {
  return {
    severity: 'error',
    kind: 'machine_not_listed',
    subject: host,
    message: `Discovery names the host ${host}, but fleet does not list it as a machine`,
    advice:
      'Look at fleet.service and etcd on this host. After an outage of etcd a machine is listed again within about a minute. Of machines with the same /etc/machine-id, such as copies, only one is listed. Remove the member from discovery when the machine will not return.',
  };
}

function invalidMember(member: string): Finding {
  return {
    severity: 'warning',
    kind: 'member_invalid',
    subject: member,
    message: `Discovery names a member that is not used: ${member}`,
    advice: 'Correct the member in discovery, so that it is the URL of a host.',
  };
}

function missingState({ name, missingOn, expected }: UnitWithoutState): Finding {
  const shown = missingOn.slice(0, MOST_NAMED).join(', ');
  const more = missingOn.length > MOST_NAMED ? ` and ${missingOn.length - MOST_NAMED} more` : '';
  const where =
    expected === 1 ? 'its machine reports' : `${missingOn.length} of its ${expected} machines report`;
  return {
    severity: 'warning',
    kind: 'state_missing',
    subject: name,
    message: `${name} should run, but ${where} no state of it: ${shown}${more}`,
    advice:
      'Check again: a unit that was just launched, or whose machine has just joined, has no state for some seconds, and after an outage of etcd for up to a minute. If it stays so, look at fleet.service on the machine, and for units whose Conflicts name this one; the unit itself may be running.',
  };
}

function incompleteList(list: string, text: string): Finding {
  return {
    severity: 'warning',
    kind: 'list_incomplete',
    subject: list,
    message: text,
    advice:
      'If the list changes fast, check again when it changes less. Correct what is invalid in etcd. Give each machine a /etc/machine-id of its own.',
  };
}

function unreadableList(list: string, reason: string): Finding {
  return {
    severity: 'error',
    kind: 'list_unreadable',
    subject: list,
    message: `The list of ${list} cannot be read: ${reason}`,
    advice: 'Look at the hosts that the message names. The limits of lists are in docs/operating.md.',
  };
}
