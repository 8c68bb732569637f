import { ROOT_CONTEXT, SpanKind, SpanStatusCode, trace } from '@opentelemetry/api';
import type { Call } from '../core/call.js';
import type { CallEventBus } from '../core/call-events.js';
import type { TraceHeaders } from '../lib/trace-context.js';
import type { UpstreamCall, UpstreamKind } from '../lib/upstream.js';
import { contextOf, headersOf } from './active-context.js';
import { ATTRIBUTES } from './attributes.js';
import { RequestTracer } from './request-spans.js';
import { type Sdk, type SdkOptions, startSdk } from './sdk.js';
import { upstreamCall } from './upstream-spans.js';

/** An HTTP request to the gateway, in progress. */
export interface TracedHttpRequest {
  /** They continue the trace. */
  readonly trace: TraceHeaders;
  /** @param status of the response; undefined: there was none */
  end(status: number | undefined): void;
}

/** The traces of a process: of the service, or of one that runs handlers for it. */
export class Tracing {
  readonly #sdk: Sdk;
  #requests: RequestTracer | undefined;

  private constructor(sdk: Sdk) {
    this.#sdk = sdk;
  }

  /** @returns undefined when it cannot be done what the variables of OpenTelemetry ask for, which is logged */
  static start(options: SdkOptions): Tracing | undefined {
    const sdk = startSdk(options);
    return sdk && new Tracing(sdk);
  }

  /** Makes spans of the requests from this queue from now on. */
  watch(events: CallEventBus, queue: string): void {
    this.#requests = new RequestTracer(this.#sdk.tracer, events, queue);
  }

  /** Runs something in the context of a call. */
  readonly inContextOf = <T>(call: Call, run: () => T): T =>
    this.#sdk.contexts.with(this.#requests?.contextOf(call) ?? ROOT_CONTEXT, run);

  /** Runs something in a trace that another process has begun. */
  readonly inTrace = <T>(headers: TraceHeaders, run: () => T): T =>
    this.#sdk.contexts.with(contextOf(headers), run);

  /** The headers that continue the trace in which this is called. */
  readonly activeTrace = (): TraceHeaders => headersOf(this.#sdk.contexts.active());

  readonly watchUpstream = (kind: UpstreamKind, operation: string, host: string): UpstreamCall =>
    upstreamCall(this.#sdk.tracer, this.#sdk.contexts.active(), { kind, operation, host });

  /** Begins the span of an HTTP request. @param route the path, with the names of its parameters */
  readonly httpRequest = (method: string, route: string, headers: TraceHeaders): TracedHttpRequest => {
    const parent = contextOf(headers);
    const attributes = { [ATTRIBUTES.httpMethod]: method, [ATTRIBUTES.httpRoute]: route };
    const span = this.#sdk.tracer.startSpan(
      `${method} ${route}`,
      { kind: SpanKind.SERVER, attributes },
      parent,
    );
    return {
      trace: headersOf(trace.setSpan(parent, span)),
      end: (status) => {
        if (status !== undefined) span.setAttribute(ATTRIBUTES.httpStatus, status);
        if (status !== undefined && status >= 500) span.setStatus({ code: SpanStatusCode.ERROR });
        span.end();
      },
    };
  };

  /** Sends what is recorded, within this time in milliseconds. Call it when nothing is recorded any more. */
  stop(withinMs: number): Promise<void> {
    return this.#sdk.stop(withinMs);
  }
}
