import {
  ActionError,
  type Clock,
  inspectUnit,
  readableLine,
  type RemoteShell,
  withTimeLimit,
} from '../../src/plugin.js';
import type { MachineToAsk } from './machines-to-ask.js';
import { type MachineStatus, NOTHING_KNOWN } from './status-result.js';

/** The machine has so much less time, so that what it says until then arrives. */
const MARGIN_MS = 2_000;

export interface AskOptions {
  unit: string;
  /** How many entries of the log to read. */
  lines: number;
  logBytes: number;
  /** How long the machine has to answer, with the time to connect, in milliseconds. */
  ms: number;
  shell: RemoteShell;
  clock: Clock;
  signal: AbortSignal;
}

/**
 * Asks one machine about the unit. Of one that does not answer it gives what the cluster shows, with the reason.
 * @throws the signal's reason
 */
export async function askMachine(
  { id, host, row, error }: MachineToAsk,
  { unit, lines, logBytes, ms, shell, clock, signal }: AskOptions,
): Promise<MachineStatus> {
  const machine = { machine_id: id, host };
  try {
    if (error !== undefined || host === null) throw error ?? noAddress(id);
    if (ms <= 0) throw notItsTurn();
    // Not 'did not respond': its command may have waited for those of other requests.
    const message = `${host} was not read within ${Math.ceil(ms / 1_000)} s`;
    const timeoutMs = Math.floor(ms - Math.min(MARGIN_MS, ms / 4));
    const inspected = await withTimeLimit({ ms, message, clock, signal }, async (limited) =>
      inspectUnit(shell, host, unit, { lines, logBytes, timeoutMs, signal: limited }),
    );
    return { ...machine, ...inspected.unit, error: shown(inspected.problem) };
  } catch (failure) {
    signal.throwIfAborted();
    if (!(failure instanceof ActionError)) throw failure;
    return {
      ...machine,
      ...NOTHING_KNOWN,
      load: row?.systemdLoadState ?? null,
      active: row?.systemdActiveState ?? null,
      sub: row?.systemdSubState ?? null,
      error: shown(failure),
    };
  }
}

function shown(error: ActionError | undefined): MachineStatus['error'] {
  return error === undefined ? null : { code: error.code, message: readableLine(error.message) };
}

function noAddress(id: string | null): ActionError {
  return new ActionError('host_unreachable', `fleet lists no address of the machine ${id}`);
}

function notItsTurn(): ActionError {
  return new ActionError(
    'timeout',
    'It was not asked in time, because of too many slow machines; name it with machine_ids',
  );
}
