import { ActionError } from '../api/action-error.js';
import { Cluster } from '../api/cluster.js';
import { actionRequest, type HandlerRun } from '../core/action-request.js';
import { BoundActions } from '../core/bound-actions.js';
import { bodyOf, withSendableDetails } from '../core/call-errors.js';
import { type ErrorBody, Shutdown } from '../core/call.js';
import type { Catalogue } from '../core/catalogue.js';
import { ServiceDrain } from '../core/service-drain.js';
import { unsendableIn } from '../core/unsendable.js';
import { Warnings } from '../core/warnings.js';
import type { Clock } from '../lib/clock.js';
import { reasonOf, shown } from '../lib/errors.js';
import { LazyAbort } from '../lib/lazy-abort.js';
import type { Logger } from '../lib/logger.js';
import type { TraceHeaders } from '../lib/trace-context.js';
import type { FromHandlerProcess, HandlerSettings, Run, Thrown, ToHandlerProcess } from './messages.js';
import { RemoteAuthority, type Told } from './remote-authority.js';
import { sendableCopy, TooLarge } from './sendable-copy.js';

/** What a handler process serves. */
export interface ServedHandlers {
  catalogue: Catalogue;
  /** Creates a log with these fields in every line. */
  logFor: (fields: Record<string, unknown>) => Logger;
  clock: Clock;
  /** Runs something in a trace of the service; undefined: traces are off. */
  inTrace?: (<T>(trace: TraceHeaders, run: () => T) => T) | undefined;
  /** Cleans up, within this time in milliseconds. */
  close: (withinMs: number) => Promise<void>;
}

/**
 * Serves the process that forked this one, until that says so or is gone.
 * @param open makes what is served, from the settings that arrive first; it calls `onLoading` when it begins to load a plugin
 * @param exit ends the process with this exit code
 */
export function serveHandlers(
  open: (settings: HandlerSettings, onLoading: () => void) => Promise<ServedHandlers>,
  exit: (code: number) => void,
): void {
  let server: HandlerServer | undefined;
  const start = async (settings: HandlerSettings) => {
    try {
      const served = await open(settings, () => send({ type: 'loading' }));
      server = new HandlerServer(served, settings.maxReplyBytes);
      send({ type: 'ready' });
    } catch (error) {
      send({ type: 'unusable', reason: reasonOf(error) }, () => exit(1));
    }
  };
  process.on('message', (message: ToHandlerProcess) => {
    if (message.type === 'start') void start(message.settings);
    else if (message.type === 'run') void server?.run(message);
    else if (message.type === 'entered' || message.type === 'refused' || message.type === 'left')
      server?.told(message);
    else if (message.type === 'ping') send({ type: 'pong' });
    else if (message.type === 'stop') server?.stop(message.call, message.reason);
    else if (message.type === 'drain') server?.drain(message.reportWithinMs);
    else void server?.close(message.withinMs).finally(() => exit(0));
  });
  process.on('disconnect', () => exit(0));
}

class HandlerServer {
  readonly #served: ServedHandlers;
  readonly #maxReplyBytes: number;
  readonly #running = new Map<number, LazyAbort>();
  readonly #drain = new ServiceDrain();
  /** Of the calls that call other actions. */
  readonly #nested = new Map<number, RemoteAuthority>();

  constructor(served: ServedHandlers, maxReplyBytes: number) {
    this.#served = served;
    this.#maxReplyBytes = maxReplyBytes;
  }

  async run(message: Run): Promise<void> {
    const { call, id } = message;
    const abort = new LazyAbort();
    this.#running.set(call, abort);
    try {
      // When this process ends, the service knows whether the call had begun.
      await new Promise<void>((resolve, reject) =>
        send({ type: 'began', call }, (error) => (error === null ? resolve() : reject(error))),
      );
      if (abort.aborted) throw abort.reason;
      const { inTrace } = this.#served;
      const handling =
        inTrace === undefined || message.trace === undefined
          ? this.#handle(message, abort)
          : inTrace(message.trace, async () => this.#handle(message, abort));
      const result = await handling;
      // Not as a reply: they come back to this process, where a date must still be one.
      if (message.work === 'check') return send({ type: 'done', call, body: result });
      const problem = unsendableIn(result, 'result');
      if (problem !== undefined) throw new TypeError(problem);
      send({ type: 'done', call, body: this.#copyOf(result) });
    } catch (error) {
      send({ type: 'failed', call, thrown: this.#thrown(error, abort, id) });
    } finally {
      this.#running.delete(call);
    }
  }

  stop(call: number, { code, errors: [message = ''], details }: ErrorBody): void {
    this.#running.get(call)?.abort(new ActionError(code, message, { details }));
  }

  /** The service begins to stop. */
  drain(reportWithinMs: number): void {
    this.#drain.begin(new Shutdown(), this.#served.clock.now() + reportWithinMs);
  }

  /** The service has answered a question about an action that a call calls. */
  told(message: Told): void {
    this.#nested.get(message.call)?.told(message);
  }

  close(withinMs: number): Promise<void> {
    return this.#served.close(withinMs);
  }

  async #handle(message: Run, abort: LazyAbort): Promise<unknown> {
    const {
      call,
      id,
      key,
      action: name,
      work,
      repeated,
      parameters,
      token,
      caller,
      traceId,
      unitNames,
      units,
      leftMs,
    } = message;
    const { catalogue, logFor, clock } = this.#served;
    const action = catalogue.find(name);
    if (action === undefined) throw new Error(`the plugins no longer declare the action ${name}`);
    if (work === 'check') return action.check(parameters);
    const warnings = new Warnings();
    const run: HandlerRun = {
      id,
      key,
      action: name,
      parameters,
      cluster: token === undefined ? undefined : new Cluster(token, () => send({ type: 'responded', call })),
      settings: action.settings,
      caller,
      traceId,
      repeated,
      deadline: clock.now() + leftMs,
      abort,
      drain: this.#drain,
      unitNames,
      units,
      warn: (text, facts) => {
        const warning = warnings.add(text, facts);
        if (warning !== undefined) send({ type: 'warned', call, warning });
      },
      logFor,
    };
    if (!action.callsOthers) return action[work]?.(actionRequest(run));
    const authority = new RemoteAuthority(call, send);
    this.#nested.set(call, authority);
    const actions = BoundActions.of({ catalogue, authority, clock }, run);
    try {
      return await action[work]?.(actionRequest(run), actions);
    } finally {
      await actions.end();
      authority.close();
      this.#nested.delete(call);
    }
  }

  #thrown(error: unknown, abort: LazyAbort, id: string): Thrown {
    if (abort.aborted && error === abort.reason) return { kind: 'aborted' };
    const known = bodyOf(error);
    if (known === undefined) return { kind: 'unexpected', text: this.#cut(shown(error)) };
    const { details, code, errors } = withSendableDetails(known, this.#served.logFor({ request: id }));
    const body = { errors: errors.map((text) => this.#cut(text)), code };
    if (details === undefined) return { kind: 'reported', body };
    try {
      return { kind: 'reported', body: { ...body, details: this.#copyOf(details) } };
    } catch (cause) {
      return { kind: 'unexpected', text: shown(cause) };
    }
  }

  #cut(text: string): string {
    return text.slice(0, this.#maxReplyBytes);
  }

  /** @throws ActionError `answer_too_large` */
  #copyOf(value: unknown): unknown {
    try {
      return sendableCopy(value, this.#maxReplyBytes);
    } catch (cause) {
      if (!(cause instanceof TooLarge)) throw cause;
      const limit = this.#maxReplyBytes;
      const message = `The reply has more than ${limit} bytes, which is the limit; request less data`;
      throw new ActionError('answer_too_large', message, { details: { limit }, cause });
    }
  }
}

function send(message: FromHandlerProcess, done: (error: Error | null) => void = () => {}): void {
  // The error is that nobody listens any more: `disconnect` follows.
  process.send?.(message, undefined, undefined, done);
}
