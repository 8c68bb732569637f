import { PluginError, UnknownActionError } from '../core/plugin-loader.js';
import { ConfigurationError } from '../settings/configuration-error.js';
import { InvalidCommandLine, UsageError } from './usage-error.js';

export interface Failure {
  code: number;
  /** Empty: there is nothing to say. */
  text: string;
}

/** The message of an expected error, and the stack of an unexpected one. */
export function failureOf(error: unknown): Failure {
  if (error instanceof InvalidCommandLine) return { code: 2, text: error.message };
  if (!(error instanceof Error)) return { code: 1, text: `fleet-manager: ${String(error)}\n` };
  const isCallerError = [ConfigurationError, UsageError, UnknownActionError].some(
    (kind) => error instanceof kind,
  );
  // An error of the system, such as a folder that cannot be written, is no defect.
  const isExpected =
    isCallerError || error instanceof PluginError || error.cause !== undefined || 'syscall' in error;
  const text = `fleet-manager: ${isExpected ? error.message : error.stack}\n`;
  return { code: isCallerError ? 2 : 1, text };
}
