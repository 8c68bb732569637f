import type { WorkResult } from './machine-requests.js';

/** systemd's words for what the login may not do. */
export const DENIED = /Access denied|Interactive authentication required|Permission denied/;

/** The exit status of work that has come to its end; else the error of a change of which nothing more can be said. */
export function endOf(
  unit: string,
  { outcome, status, wasRebooted, output }: WorkResult,
): { status: number } | { code: string; message: string } {
  if (outcome === 'ended' && status !== undefined) return { status };
  if (outcome === 'refused')
    return DENIED.test(output)
      ? { code: 'not_permitted', message: `The login of the service may not change ${unit}: ${output}` }
      : {
          code: 'command_failed',
          message: `${unit} was not changed, as the machine did not begin: ${output}`,
        };
  const how =
    outcome === 'running'
      ? 'the machine is still at it'
      : wasRebooted
        ? 'the machine was rebooted in the middle of it'
        : 'it was ended in the middle, and not by systemd';
  return {
    code: 'outcome_unknown',
    message: `It is not known what came of the change of ${unit}: ${how}`,
  };
}
