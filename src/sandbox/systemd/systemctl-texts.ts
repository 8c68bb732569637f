import type { CommandResult } from '../simulated-machine.js';
import type { JobResult } from './loaded-unit.js';

/** What systemctl says of a job that has ended, and its exit status. */
export function jobOutcome(unit: string, result: JobResult): CommandResult {
  const failed = `Job for ${unit} failed because`;
  const see = `See "systemctl status ${unit}" and "journalctl -xeu ${unit}" for details.`;
  const texts: Readonly<Record<JobResult, string>> = {
    done: '',
    canceled: `Job for ${unit} canceled.`,
    timeout: `${failed} a timeout was exceeded.\n${see}`,
    dependency: `A dependency job for ${unit} failed. See 'journalctl -xe' for details.`,
    assert: `Assertion failed on job for ${unit}.`,
    failed: `${failed} the control process exited with error code.\n${see}`,
    limit:
      `${failed} start of the service was attempted too often.\n${see}\n` +
      `To force a start use "systemctl reset-failed ${unit}"\nfollowed by "systemctl start ${unit}" again.`,
  };
  return result === 'done' ? { status: 0 } : refused(texts[result]);
}

export function printed(stdout: string): CommandResult {
  return { status: 0, stdout };
}

export function refused(reason: string, status = 1): CommandResult {
  return { status, stderr: `${reason}\n` };
}
