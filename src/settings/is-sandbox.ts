import type { Configuration } from './settings.js';

/** Whether no broker is configured: the service then runs as a sandbox, and a caller uses the gateway. */
export function isSandbox({ amqp, openaperture }: Pick<Configuration, 'amqp' | 'openaperture'>): boolean {
  return amqp === undefined && openaperture === undefined;
}
