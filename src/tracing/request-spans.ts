import {
  type Context,
  ROOT_CONTEXT,
  type Span,
  SpanKind,
  SpanStatusCode,
  trace,
  type Tracer,
} from '@opentelemetry/api';
import type { Cluster } from '../api/cluster.js';
import type { ActionDescription } from '../core/action-description.js';
import type { Call } from '../core/call.js';
import type { CallEventBus } from '../core/call-events.js';
import { contextOf } from './active-context.js';
import { ATTRIBUTES } from './attributes.js';
import { noteFailure } from './span-outcome.js';

/** The spans of a request in progress. */
interface RequestSpans {
  readonly request: Span;
  readonly requestContext: Context;
  /** What it does now: it waits, runs, or is answered. */
  phase: Span | undefined;
  /** In which its work is done: that of the phase, or of the request while it waits. */
  context: Context;
  /** The name of its action; undefined until it is admitted or denied. */
  action: string | undefined;
}

/** The run that several requests share, while it is told of each of them. */
interface SharedRun {
  readonly id: string;
  readonly span: Span;
}

/**
 * Makes the spans of each request: one from its arrival until it is answered, in the trace of its caller, and below it `wait`, `run`
 * and `reply`.
 */
export class RequestTracer {
  readonly #tracer: Tracer;
  readonly #open = new WeakMap<Call, RequestSpans>();
  #shared: SharedRun | undefined;

  /** @param queue from which the requests come */
  constructor(tracer: Tracer, events: CallEventBus, queue: string) {
    this.#tracer = tracer;
    events.on('received', ({ call }) => this.#received(call, queue));
    events.on('admitted', ({ call, action, cluster }) => {
      const spans = this.#open.get(call);
      if (spans === undefined) return;
      nameRequest(spans, action, cluster);
      this.#enter(spans, 'wait');
      spans.context = spans.requestContext;
    });
    events.on('denied', ({ call, action, cluster }) => {
      const spans = this.#open.get(call);
      if (spans !== undefined) nameRequest(spans, action, cluster);
    });
    events.on('began', ({ call, sharedRun }) => {
      const spans = this.#open.get(call);
      if (spans === undefined) return;
      const run = this.#enter(spans, `run ${spans.action}`);
      if (sharedRun !== undefined) this.#share(call, run, sharedRun);
    });
    events.on('settled', ({ call, settled }) => {
      const spans = this.#open.get(call);
      if (spans === undefined) return;
      if (settled.status === 'error' && spans.phase !== undefined)
        noteFailure(spans.phase, settled.body.code);
      this.#enter(spans, 'reply');
    });
    events.on('released', ({ call }) => this.#close(call, 'released'));
    events.on('answered', ({ call, reply }) => {
      if (reply.status === 'completed') return this.#close(call, 'completed');
      const spans = this.#open.get(call);
      if (spans !== undefined) noteFailure(spans.request, reply.body.code);
      return this.#close(call, reply.body.code);
    });
    events.on('unanswered', ({ call }) => {
      this.#open.get(call)?.request.setStatus({ code: SpanStatusCode.ERROR, message: 'unanswered' });
      this.#close(call, 'unanswered');
    });
  }

  /** Runs something in the context of a call: what it does belongs to the span of what the call does now. */
  contextOf(call: Call): Context {
    return this.#open.get(call)?.context ?? ROOT_CONTEXT;
  }

  #received(call: Call, queue: string): void {
    const parent = contextOf(call.context);
    const attributes = {
      [ATTRIBUTES.messagingSystem]: 'rabbitmq',
      [ATTRIBUTES.messagingOperation]: 'process',
      [ATTRIBUTES.messagingOperationType]: 'process',
      [ATTRIBUTES.messagingDestination]: queue,
      [ATTRIBUTES.messageId]: call.id,
      [ATTRIBUTES.door]: call.door,
      [ATTRIBUTES.attempt]: call.attempt,
      [ATTRIBUTES.caller]: call.caller.name,
    };
    const request = this.#tracer.startSpan(
      `process ${queue}`,
      { kind: SpanKind.CONSUMER, attributes },
      parent,
    );
    call.traceId = request.spanContext().traceId;
    const context = trace.setSpan(parent, request);
    this.#open.set(call, { request, requestContext: context, phase: undefined, context, action: undefined });
  }

  /** Ends the phase of a request, and begins the next one. */
  #enter(spans: RequestSpans, name: string): Span {
    spans.phase?.end();
    const phase = this.#tracer.startSpan(name, {}, spans.requestContext);
    spans.phase = phase;
    spans.context = trace.setSpan(spans.requestContext, phase);
    return phase;
  }

  /** The run of several requests is in the trace of one of them, which is told first. The spans of the others are linked to it. */
  #share(call: Call, span: Span, id: string): void {
    if (call.id === id) {
      this.#shared = { id, span };
      return;
    }
    if (this.#shared?.id !== id) return;
    span.addLink({ context: this.#shared.span.spanContext() });
    this.#shared.span.addLink({ context: span.spanContext() });
  }

  #close(call: Call, outcome: string): void {
    const spans = this.#open.get(call);
    if (spans === undefined) return;
    this.#open.delete(call);
    spans.phase?.end();
    spans.request.setAttribute(ATTRIBUTES.outcome, outcome);
    spans.request.end();
  }
}

/** Also a request that the policy denies tells what it asked for. */
function nameRequest(
  spans: RequestSpans,
  { name: action }: ActionDescription,
  cluster: Cluster | undefined,
): void {
  spans.action = action;
  spans.request.setAttribute(ATTRIBUTES.action, action);
  if (cluster !== undefined) spans.request.setAttribute(ATTRIBUTES.cluster, cluster.hash);
}
