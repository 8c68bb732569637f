import { randomBytes } from 'node:crypto';
import type { Cancellable } from '../../api/cancellable.js';
import type { RemoteShell } from '../../api/remote-shell.js';
import type { Machine } from '../../api/fleet-transport.js';
import type { UnreachableHost } from '../../api/warn.js';
import { askMachines } from './machine-answers.js';
import { SURVEY_SCRIPT } from './survey-script.js';
import { readSurvey, type Survey } from './survey.js';
import type { SystemdMachine } from './systemd-machine.js';

/** How long one machine has to answer, in milliseconds, without the time to connect. */
const SURVEY_MS = 10_000;
/** Some thousands of units with their files, in bytes. */
const MAX_SURVEY_BYTES = 32 * 1024 * 1024;

export interface SurveyedMachine {
  machine: Machine;
  survey: Survey;
}

export interface Surveys {
  /** In the order of the inventory. */
  reached: readonly SurveyedMachine[];
  unreachable: readonly UnreachableHost[];
}

/**
 * Asks every machine what it knows of its units, at the same time, so that one that does not answer costs no more than its time limit.
 * @throws the signal's reason
 */
export async function surveyMachines(
  shell: RemoteShell,
  machines: readonly SystemdMachine[],
  { signal }: Cancellable,
): Promise<Surveys> {
  const { reached, unreachable } = await askMachines(machines, signal, async (host) =>
    surveyOf(shell, host, signal),
  );
  return {
    unreachable,
    reached: reached.map(({ machine: { host, metadata }, answer: survey }) => ({
      machine: { id: survey.machineID, primaryIP: host, metadata: { ...metadata } },
      survey,
    })),
  };
}

async function surveyOf(shell: RemoteShell, host: string, signal: AbortSignal): Promise<Survey> {
  const mark = randomBytes(16).toString('hex');
  const { stdout } = await shell.run(host, ['sh', '-c', SURVEY_SCRIPT, 'sh', mark], {
    signal,
    timeoutMs: SURVEY_MS,
    maxOutputBytes: MAX_SURVEY_BYTES,
  });
  return readSurvey(stdout, mark);
}
