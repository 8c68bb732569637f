import type { ConfigurationSource } from '../settings/given-settings.js';
import { logSettings } from '../settings/log-settings.js';
import { Log } from '../telemetry/log.js';

/**
 * Logs why the service could not start, when its log is JSON: whatever reads its output then expects nothing else.
 * @returns false: its log is text, and nothing was written
 */
export function logStartFailure(reason: string, source: ConfigurationSource): boolean {
  const { level, format } = logSettings(source);
  if (format !== 'json') return false;
  const log = Log.create({ level, format });
  log.error('service start failed', { reason: reason.trimEnd() });
  return true;
}
