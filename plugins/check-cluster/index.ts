import { array, object, string } from 'yup';
import {
  type ClusterHostsReport,
  defineAction,
  FleetTransport,
  unitsWithoutState,
} from '../../src/plugin.js';

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
          'host_not_answering, machine_not_listed, member_invalid, state_missing, or list_incomplete.',
      }),
      subject: string().required().meta({ description: 'The host, member or unit, or the list.' }),
      message: string().required().meta({ description: 'What is wrong.' }),
      advice: string().required().meta({ description: 'What to do about it.' }),
    }),
  )
    .required()
    .meta({ description: 'The findings, the hosts first.' }),
  inject: { fleet: FleetTransport },

  async handle({ cluster, signal }, { fleet }) {
    const report = await fleet.hosts(cluster, { signal });
    const findings = hostFindings(report);
    // Without a host that answers, units and states cannot be read.
    if (report.hosts.every(({ failure }) => failure !== undefined)) return findings;
    const warn = (text: string) => findings.push(incompleteList(text));
    const units = await fleet.units(cluster, { signal, warn });
    const states = await fleet.unitStates(cluster, { signal, warn });
    return [...findings, ...unitsWithoutState(units, states).map(missingState)];
  },
});

function hostFindings({ hosts, unlisted, ignored }: ClusterHostsReport): Finding[] {
  return [
    ...hosts.flatMap(({ host, failure }) => (failure === undefined ? [] : [silentHost(host, failure)])),
    ...unlisted.map(unlistedHost),
    ...ignored.map(invalidMember),
  ];
}

function silentHost(host: string, failure: string): Finding {
  return {
    severity: 'error',
    kind: 'host_not_answering',
    subject: host,
    message: `The fleet API at ${host} does not answer: ${failure}`,
    advice:
      'Look at fleet.service and the network on this host. Remove the member from discovery when the machine is gone for good.',
  };
}

function unlistedHost(host: string): Finding {
  return {
    severity: 'error',
    kind: 'machine_not_listed',
    subject: host,
    message: `Discovery names the host ${host}, but fleet does not list it as a machine`,
    advice:
      'Look at fleet.service and etcd on this host. After an outage of etcd a machine is listed again within about a minute. Remove the member from discovery when the machine is gone for good.',
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

function missingState(unit: string): Finding {
  return {
    severity: 'warning',
    kind: 'state_missing',
    subject: unit,
    message: `${unit} should run, but its machine reports no state of it`,
    advice:
      'Check again: a unit that was just launched has no state for some seconds, and after an outage of etcd for up to a minute. If it stays so, look at fleet.service on its machine; the unit itself may be running.',
  };
}

function incompleteList(text: string): Finding {
  return {
    severity: 'warning',
    kind: 'list_incomplete',
    subject: 'units and states',
    message: text,
    advice:
      'Check again when fewer units are created and removed; remove units with invalid names from etcd.',
  };
}
