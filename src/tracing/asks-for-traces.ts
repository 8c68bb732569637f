/** The variables of OpenTelemetry that say where traces go. */
const DESTINATIONS = [
  'OTEL_EXPORTER_OTLP_ENDPOINT',
  'OTEL_EXPORTER_OTLP_TRACES_ENDPOINT',
  'OTEL_TRACES_EXPORTER',
] as const;

/**
 * Whether the environment asks for traces, as OpenTelemetry defines its variables; an empty one counts as not set
 * (https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/).
 */
export function asksForTraces(env: Readonly<NodeJS.ProcessEnv>): boolean {
  if (env.OTEL_SDK_DISABLED?.trim().toLowerCase() === 'true') return false;
  if (env.OTEL_TRACES_EXPORTER?.trim() === 'none') return false;
  return DESTINATIONS.some((name) => (env[name] ?? '').trim() !== '');
}
