import type { SdkOptions } from './sdk.js';
import { asksForTraces } from './asks-for-traces.js';
import type { Tracing } from './tracing.js';

/**
 * Starts the traces of this process, if its environment asks for them. Without them OpenTelemetry is not loaded.
 * @returns undefined when there are none
 */
export async function startTracing(options: Omit<SdkOptions, 'env'>): Promise<Tracing | undefined> {
  const { env } = process;
  if (!asksForTraces(env)) return undefined;
  const { Tracing } = await import('./tracing.js');
  return Tracing.start({ ...options, env });
}
