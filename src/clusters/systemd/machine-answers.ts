import { ActionError } from '../../api/action-error.js';
import { mapLimited } from '../../api/map-limited.js';
import type { UnreachableHost, Warn } from '../../api/warn.js';
import { reasonOf } from '../../lib/errors.js';
import type { SystemdMachine } from './systemd-machine.js';

/** How many machines are asked, or changed, at the same time. */
export const AT_ONCE = 64;

export interface MachineAnswers<Answer> {
  /** In the order of the inventory. */
  reached: { machine: SystemdMachine; answer: Answer }[];
  unreachable: UnreachableHost[];
}

/**
 * Asks machines, at the same time, so that one that does not answer costs no more than its time limit.
 * @throws the signal's reason
 */
export async function askMachines<Answer>(
  machines: readonly SystemdMachine[],
  signal: AbortSignal,
  ask: (host: string) => Promise<Answer>,
): Promise<MachineAnswers<Answer>> {
  const asked = await mapLimited(machines, AT_ONCE, async (machine) => {
    try {
      return { reached: { machine, answer: await ask(machine.host) } };
    } catch (error) {
      signal.throwIfAborted();
      const code = error instanceof ActionError ? error.code : 'cluster_answer_invalid';
      return { unreachable: { host: machine.host, code, reason: reasonOf(error) } };
    }
  });
  return {
    reached: asked.flatMap(({ reached }) => reached ?? []),
    unreachable: asked.flatMap(({ unreachable }) => unreachable ?? []),
  };
}

/** What a list of these machines lacks; undefined: nothing. */
export function missingIn(
  unreachable: readonly UnreachableHost[],
  asked: number,
): Parameters<Warn> | undefined {
  return unreachable.length === 0 ? undefined : [sentenceOf(unreachable, asked), { unreachable }];
}

function sentenceOf(unreachable: readonly UnreachableHost[], asked: number): string {
  const shown = unreachable.slice(0, 5).map(({ host, reason }) => `${host} (${reason})`);
  const more = unreachable.length > shown.length ? ` and ${unreachable.length - shown.length} more` : '';
  return `${unreachable.length} of ${asked} machines did not answer, so what they have is missing: ${shown.join(', ')}${more}`;
}

/** No machine answers. Where the service may not connect to any of them, or none runs its commands, it is no use to try again. */
export function noneReached(unreachable: readonly UnreachableHost[]): ActionError {
  const isEach = (wanted: string) => unreachable.every(({ code }) => code === wanted);
  const code = ['forbidden', 'command_failed'].find(isEach) ?? 'cluster_unreachable';
  const what = code === 'command_failed' ? 'carries out what it is asked' : 'answers';
  return new ActionError(code, `No machine of the cluster ${what}: ${unreachable[0]?.reason}`, {
    details: { unreachable },
  });
}
