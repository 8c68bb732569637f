import { ActionError } from '../../src/plugin.js';

/** What a failed command wrote to stderr; empty for any other error. */
export function stderrOf(error: unknown): string {
  if (!(error instanceof ActionError) || error.code !== 'command_failed') return '';
  const { details } = error;
  return typeof details === 'object' && details !== null && 'stderr' in details ? String(details.stderr) : '';
}
