import { ActionError, type RemoteOutput } from '../../src/plugin.js';

/** The exit status of a program that is not installed. */
const NOT_FOUND = 127;

/** Whether a program is not installed on the machine. A script that misses another program ends so too, but says so. */
export function isNotInstalled(output: RemoteOutput | ActionError): boolean {
  if (output instanceof ActionError || output.failure === undefined || output.stdout !== '') return false;
  const { details } = output.failure;
  const hasStatus = typeof details === 'object' && details !== null && 'exitStatus' in details;
  return (
    hasStatus &&
    details.exitStatus === NOT_FOUND &&
    // timeout(1), which runs it, says so.
    (output.stderr.trim() === '' || output.stderr.startsWith('timeout: '))
  );
}

/** Whether df says that the folder is not there. */
export function isNoFolder({ failure, stderr }: RemoteOutput): boolean {
  return failure !== undefined && /: No such file or directory\s*$/.test(stderr);
}

/** Whether systemctl says that the machine was booted without systemd. */
export function isWithoutSystemd({ failure, stderr }: RemoteOutput): boolean {
  return failure !== undefined && stderr.includes('not been booted with systemd');
}

/** Whether rpm-ostree says that the machine was not booted by it. */
export function isWithoutOstree({ failure, stderr }: RemoteOutput): boolean {
  return failure !== undefined && stderr.includes('not booted via libostree');
}
