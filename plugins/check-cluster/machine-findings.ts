import type { AskedMachines, MachineReport, SilentMachine } from './ask-machines.js';
import { addTo, type Finding, named } from './finding.js';

/** Why the service itself is not let in, whatever the state of the machine. */
const REFUSALS: ReadonlySet<string> = new Set(['login_refused', 'host_key_refused', 'forbidden']);

/** Whether a machine does not let the service in. */
export function isRefusal({ error: { code } }: SilentMachine): boolean {
  return REFUSALS.has(code);
}

/** A machine that fleet lists, and that cannot be asked by SSH. */
export function notAnswering({ id, host, error: { code, message } }: SilentMachine): Finding {
  return {
    severity: 'error',
    kind: 'machine_not_answering',
    subject: host,
    message: `fleet lists the machine ${host}, but it cannot be asked by SSH: ${message}`,
    advice:
      'Look at sshd and the network on this machine, and at the login of the service there: fleet-manager doctor --cluster. Until then the service can neither read logs there nor see what fleet does not tell.',
    evidence: { machine_id: id, host, code, reason: message },
  };
}

/** A host of a cluster without fleet that cannot be asked. */
export function hostNotAnswering({ host, error: { code, message } }: SilentMachine): Finding {
  return {
    severity: 'error',
    kind: 'host_not_answering',
    subject: host,
    message: `The host ${host} cannot be asked by SSH: ${message}`,
    advice:
      'Look at whether it is up, at its sshd and the network, and at the login of the service there: fleet-manager doctor --cluster. Remove it from CLUSTERS_FILE when it will not return.',
    evidence: { host, code, reason: message },
  };
}

/** @param asked what came of asking it by SSH among others; undefined: none were asked, or none lets the service in */
export function notListed(host: string, asked: AskedMachines | undefined): Finding {
  const report = asked?.reports.find((each) => each.id === null && each.host === host);
  const silent = asked?.silent.find((each) => each.id === null && each.host === host);
  const ssh = report
    ? ', though it answers by SSH'
    : silent
      ? `, and it cannot be asked by SSH either: ${silent.error.message}`
      : '';
  return {
    severity: 'error',
    kind: 'machine_not_listed',
    subject: host,
    message: `Discovery names the host ${host}, but fleet does not list it as a machine${ssh}`,
    advice:
      'Look at fleet.service and etcd on this host. After an outage of etcd a machine is listed again within about a minute. Of machines with the same /etc/machine-id, such as copies, only one is listed. Remove the member from discovery when the machine will not return.',
    evidence: {
      host,
      answers_ssh: report ? true : silent ? false : null,
      machine_id: report?.ownID ?? null,
    },
  };
}

/** What of machines could not be read, so that nothing is said of it. */
export function unreadableParts(reports: readonly MachineReport[]): Finding[] {
  return reports
    .filter(({ problems }) => problems.length > 0)
    .map(({ id, ownID, host, problems }) => ({
      severity: 'warning',
      kind: 'machine_unreadable',
      subject: host,
      message: `Of ${host} could not be read: ${problems.map(({ part, reason }) => `${part} (${reason})`).join('; ')}`,
      advice:
        'Run the command that the message names on this machine. One that hangs waits for a disk, or for PID 1.',
      evidence: { machine_id: id ?? ownID ?? null, host, problems },
    }));
}

/** Hosts with the same /etc/machine-id, as copies have it: what is done or read by the id of a machine may be that of another. */
export function sharedIDs(reports: readonly MachineReport[]): Finding[] {
  const sharing = new Map<string, string[]>();
  for (const { ownID, host } of reports) if (ownID !== undefined) addTo(sharing, ownID, host);
  return [...sharing]
    .filter(([, { length }]) => length > 1)
    .map(([id, names]) => {
      return {
        severity: 'error',
        kind: 'machine_id_shared',
        subject: id,
        message: `${names.length} hosts have the machine id ${id}: ${named(names)}`,
        advice:
          'Give each a /etc/machine-id of its own: remove the file on all but one, run systemd-machine-id-setup, and reboot. Until then changes may be made on the wrong host.',
        evidence: { machine_id: id, count: names.length, hosts: names.slice(0, 50) },
      };
    });
}
