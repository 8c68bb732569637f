import { isIP } from 'node:net';
import type { ClusterHostsReport, Machine } from '../../src/plugin.js';
import type { Finding } from './finding.js';

/** What the fleet APIs of the hosts of discovery say. */
export function hostFindings({
  hosts,
  ignored,
  moreIgnored,
}: Omit<ClusterHostsReport, 'unlisted'>): Finding[] {
  return [
    ...hosts.flatMap(({ host, failure }) => (failure === undefined ? [] : [failingHost(host, failure)])),
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
    evidence: { host, failure },
  };
}

function invalidMember(member: string): Finding {
  return {
    severity: 'warning',
    kind: 'member_invalid',
    subject: member,
    message: `Discovery names a member that is not used: ${member}`,
    advice: 'Correct the member in discovery, so that it is the URL of a host.',
    evidence: { member },
  };
}

/** The machines to which no action can log in. */
export function machinesWithoutAddress(machines: readonly Machine[]): Finding[] {
  return machines.filter(({ primaryIP }) => !isAddress(primaryIP)).map(machineWithoutAddress);
}

export function isAddress(address: string | null): address is string {
  return address !== null && isIP(address) !== 0;
}

function machineWithoutAddress({ id, primaryIP }: Machine): Finding {
  const address = primaryIP === null ? 'no address' : `the invalid address ${JSON.stringify(primaryIP)}`;
  return {
    severity: 'error',
    kind: 'machine_without_address',
    subject: id,
    message: `fleet lists ${address} for the machine ${id}, so nothing can be read from it by SSH`,
    advice: 'Set public_ip in the configuration of fleet on this machine, and restart fleet.service there.',
    evidence: { machine_id: id, address: primaryIP },
  };
}
