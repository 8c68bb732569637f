import { AsyncLocalStorageContextManager } from '@opentelemetry/context-async-hooks';
import { context, diag, DiagLogLevel, trace, type Tracer } from '@opentelemetry/api';
import {
  defaultResource,
  detectResources,
  envDetector,
  resourceFromAttributes,
} from '@opentelemetry/resources';
import { BasicTracerProvider, BatchSpanProcessor } from '@opentelemetry/sdk-trace-base';
import type { Clock } from '../lib/clock.js';
import type { Logger } from '../lib/logger.js';
import { OutageLog } from '../lib/outage-log.js';
import { settledWithin } from '../lib/settled-within.js';
import { ATTRIBUTES, SCHEMA_URL } from './attributes.js';
import { hideSecrets } from './hide-secrets.js';
import { problemOfExporter, WatchedExporter } from './span-exporter.js';

export interface SdkOptions {
  env: Readonly<NodeJS.ProcessEnv>;
  /** The name of this worker. */
  hostname: string;
  clock: Clock;
  log: Logger;
}

/** OpenTelemetry's SDK: samples spans, keeps at most 2,048 of them, and sends them to a collector. */
export interface Sdk {
  readonly tracer: Tracer;
  readonly contexts: AsyncLocalStorageContextManager;
  /** Sends what it has, within this time in milliseconds, and ends. */
  stop(withinMs: number): Promise<void>;
}

/**
 * Starts the SDK, as the variables of OpenTelemetry say. It becomes that of the process, so that what plugins record with
 * `@opentelemetry/api` is in the same trace.
 * @returns undefined when it cannot do what they ask for, which is logged
 */
export function startSdk({ env, hostname, clock, log }: SdkOptions): Sdk | undefined {
  const problem = problemOfExporter(env);
  if (problem !== undefined) {
    log.warn('traces not sent', { reason: problem });
    return undefined;
  }
  // Later it could repeat itself for each request; failures to send are logged without it.
  const warn = (text: string) => log.warn('OpenTelemetry settings', { reason: hideSecrets(text, env) });
  const ignore = () => {};
  diag.setLogger({ error: warn, warn, info: ignore, debug: ignore, verbose: ignore }, DiagLogLevel.WARN);
  try {
    const outage = new OutageLog(log, clock, {
      began: 'trace collector lost',
      ended: 'trace collector restored',
    });
    const provider = new BasicTracerProvider({
      resource: resourceOf(hostname),
      spanProcessors: [new BatchSpanProcessor(new WatchedExporter(env, outage))],
    });
    const contexts = new AsyncLocalStorageContextManager().enable();
    context.setGlobalContextManager(contexts);
    trace.setGlobalTracerProvider(provider);
    return {
      tracer: provider.getTracer('fleet-manager', undefined, { schemaUrl: SCHEMA_URL }),
      contexts,
      stop: async (withinMs) => {
        await settledWithin(withinMs, clock, provider.shutdown());
      },
    };
  } finally {
    diag.disable();
  }
}

/** What `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES` say counts more. */
function resourceOf(hostname: string): ReturnType<typeof defaultResource> {
  const own = resourceFromAttributes({
    [ATTRIBUTES.serviceName]: 'fleet-manager',
    [ATTRIBUTES.serviceInstance]: hostname,
  });
  return defaultResource()
    .merge(own)
    .merge(detectResources({ detectors: [envDetector] }));
}
