import { ExportResultCode } from '@opentelemetry/core';
import { OTLPTraceExporter as JsonExporter } from '@opentelemetry/exporter-trace-otlp-http';
import { OTLPTraceExporter as ProtobufExporter } from '@opentelemetry/exporter-trace-otlp-proto';
import type { ReadableSpan, SpanExporter } from '@opentelemetry/sdk-trace-base';
import type { OutageLog } from '../lib/outage-log.js';
import { reasonOf } from '../lib/errors.js';

type Exported = Parameters<SpanExporter['export']>[1];

/** Why the environment asks for traces in a way that this service does not know; undefined: it does not. */
export function problemOfExporter(env: Readonly<NodeJS.ProcessEnv>): string | undefined {
  const exporter = given(env.OTEL_TRACES_EXPORTER) ?? 'otlp';
  if (exporter !== 'otlp')
    return `OTEL_TRACES_EXPORTER must be otlp or none, not '${exporter.slice(0, 100)}': no traces are sent`;
  const protocol = protocolOf(env);
  if (protocol === 'http/protobuf' || protocol === 'http/json') return undefined;
  return `OTEL_EXPORTER_OTLP_PROTOCOL must be http/protobuf or http/json, not '${protocol.slice(0, 100)}': no traces are sent`;
}

/** Sends spans to the collector that the environment names. Its own failures are logged as one outage. */
export class WatchedExporter implements SpanExporter {
  readonly #exporter: SpanExporter;
  readonly #outage: OutageLog;

  constructor(env: Readonly<NodeJS.ProcessEnv>, outage: OutageLog) {
    this.#exporter = protocolOf(env) === 'http/json' ? new JsonExporter() : new ProtobufExporter();
    this.#outage = outage;
  }

  export(spans: ReadableSpan[], done: Exported): void {
    this.#exporter.export(spans, (result) => {
      if (result.code === ExportResultCode.SUCCESS) this.#outage.succeeded();
      else this.#outage.failed({ reason: reasonOf(result.error), spans: spans.length });
      // Known and logged: the processor would only pass it on.
      done({ code: ExportResultCode.SUCCESS });
    });
  }

  async forceFlush(): Promise<void> {
    await this.#exporter.forceFlush?.();
  }

  async shutdown(): Promise<void> {
    await this.#exporter.shutdown();
  }
}

function protocolOf(env: Readonly<NodeJS.ProcessEnv>): string {
  return (
    given(env.OTEL_EXPORTER_OTLP_TRACES_PROTOCOL) ?? given(env.OTEL_EXPORTER_OTLP_PROTOCOL) ?? 'http/protobuf'
  );
}

function given(value: string | undefined): string | undefined {
  const text = value?.trim() ?? '';
  return text === '' ? undefined : text;
}
