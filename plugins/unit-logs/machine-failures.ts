import { ActionError } from '../../src/plugin.js';

/** A machine that could not be read. */
export interface MachineFailure {
  /** The id of the machine. */
  machine: string;
  error: ActionError;
}

/** A machine whose journal could be read only in part. */
export interface MachineGaps {
  /** The id of the machine. */
  machine: string;
  /** Why lines may be missing; at least one reason. */
  gaps: readonly string[];
}

/** How many machines a message names. */
const MAX_NAMED = 10;

/**
 * The error when none of several machines could be read: the code of one that the caller can fix, or else of the first one,
 * and in the details `machines`, `[{ machine, code, message }]`.
 */
export function noMachineRead(failures: readonly [MachineFailure, ...MachineFailure[]]): ActionError {
  const { error } = failures.find(isCallersFault) ?? failures[0];
  const details = {
    ...(typeof error.details === 'object' ? error.details : undefined),
    machines: failures.map(({ machine, error: { code, message } }) => ({ machine, code, message })),
  };
  return new ActionError(error.code, `no machine could be read: ${listed(failures)}`, {
    details,
    cause: error,
  });
}

/** The warning when some of several machines could not be read. */
export function someNotRead(failures: readonly MachineFailure[], of: number): string {
  return `${failures.length} of ${of} machines could not be read: ${listed(failures)}`;
}

/** The warning when lines of some of several machines may be missing. */
export function someIncomplete(machines: readonly MachineGaps[], of: number): string {
  const texts = machines.map(({ machine, gaps }) => `${machine}: ${gaps.join('; ')}`);
  return `Lines of ${machines.length} of ${of} machines may be missing: ${firstOf(texts)}`;
}

function listed(failures: readonly MachineFailure[]): string {
  return firstOf(failures.map(({ machine, error: { code, message } }) => `${machine}: ${code}: ${message}`));
}

function firstOf(texts: readonly string[]): string {
  const more = texts.length - MAX_NAMED;
  return [...texts.slice(0, MAX_NAMED), ...(more > 0 ? [`and ${more} more`] : [])].join('; ');
}

function isCallersFault({ error }: MachineFailure): boolean {
  return error.code === 'invalid_parameters';
}
