import type { Configuration } from './settings.js';

/** Whether no broker is configured. The service then runs as a sandbox, and the `call` command uses the HTTP gateway. */
export function isSandbox({ amqp, openaperture }: Pick<Configuration, 'amqp' | 'openaperture'>): boolean {
  return amqp === undefined && openaperture === undefined;
}
