import { type ChildProcess, fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { ActionError } from '../api/action-error.js';
import { releases } from '../core/call.js';
import { bodyOf, settledWith } from '../core/call-errors.js';
import { type IsolatedCall, NeverBegan } from '../core/isolation.js';
import type { Clock } from '../lib/clock.js';
import { shown } from '../lib/errors.js';
import type { Logger } from '../lib/logger.js';
import type { TraceHeaders } from '../lib/trace-context.js';
import type { FromHandlerProcess, HandlerSettings, Thrown, ToHandlerProcess } from './messages.js';
import { readLines } from './read-lines.js';

export interface HandlerProcessOptions {
  /** The module that the process runs; it calls `serveHandlers`. */
  module: URL;
  settings: HandlerSettings;
  clock: Clock;
  log: Logger;
  /** Gets each line that the process writes: the lines of its log. */
  onLine: (line: string) => void;
  /** The trace in which it is called; undefined: traces are off. */
  activeTrace?: (() => TraceHeaders) | undefined;
}

/** The process ended while it had the call. */
export class ProcessEnded extends Error {
  override readonly name = 'ProcessEnded';

  constructor(
    how: string,
    /** How far the call had come. */
    readonly progress: 'not sent' | Running['progress'],
  ) {
    super(how);
  }
}

/** The process could not be started, ended, or was not ready in time, before it could run any call. */
export class NotStarted extends Error {
  override readonly name = 'NotStarted';
}

/** A call in the process. */
interface Running {
  readonly call: IsolatedCall;
  readonly resolve: (result: unknown) => void;
  readonly reject: (error: unknown) => void;
  readonly onAbort: () => void;
  progress: 'sent' | 'begun';
  /** Cancels the wait for its end after it was stopped. */
  cancelStop: () => void;
  /** Whether it has not ended in time after it was stopped; one that was released has no time. */
  isOverdue: boolean;
}

/** How long a process may take to begin, and then to load each plugin, in milliseconds. The import of one may take 30 s. */
const START_MS = 60_000;
/** How long a stopped call may take to end, in milliseconds, before its process is killed; a change has as long to report. */
const STOP_MS = 30_000;
/** Why a process is killed when nobody waits for what runs in it. */
export const GIVEN_BACK = 'all of its requests were given back to the queue';
/** The longest line of its log, in UTF-16 code units: longer than any that the log itself writes. */
const MAX_LINE = 1024 * 1024;

/** One process that runs handlers. */
export class HandlerProcess {
  /** Rejects with `NotStarted`, also when the system cannot start a process. */
  readonly ready: Promise<void>;
  /** Resolves when it has ended. */
  readonly ended: Promise<void>;
  readonly #options: HandlerProcessOptions;
  readonly #child: ChildProcess;
  readonly #running = new Map<number, Running>();
  /** What waits for a response, in the order of the questions. */
  readonly #pings: (() => void)[] = [];
  readonly #kill = () => {
    // Without a pid it was not started: the signal would be sent to the group of this process.
    if (this.#child.pid !== undefined) this.#child.kill('SIGKILL');
  };
  #calls = 0;
  #isReady = false;
  #isEnding = false;
  /** How it ended. */
  #how: string | undefined;
  /** Why it was killed, or cannot start. */
  #reason: string | undefined;
  #cancelLimit = () => {};
  /** Undefined: no call has told yet how the service learns of its stop. */
  #unwatchDrain: (() => void) | undefined;

  constructor(options: HandlerProcessOptions) {
    const { module, settings, onLine } = options;
    this.#options = options;
    this.#child = fork(fileURLToPath(module), {
      serialization: 'advanced',
      stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
    });
    const how = hasEnded(this.#child);
    this.ready = new Promise((resolve, reject) => {
      this.#child.on('message', (message: FromHandlerProcess | null) => {
        // A plugin may send on this channel too, as a library does that reports to a process manager.
        if (message === null) return;
        if (message.type === 'loading') this.#limitStart();
        else if (message.type === 'ready') {
          this.#isReady = true;
          this.#cancelLimit();
          resolve();
        } else this.#receive(message);
      });
      void how.then((text) => reject(new NotStarted(this.#reason ?? text)));
    });
    this.ended = how.then((text) => this.#end(text));
    // It could not be started, and has no streams and no channel, or none that work: `hasEnded` gets the error.
    if (this.#child.pid === undefined) return;
    // The process must not outlive this one, not even when it is blocked and cannot see that the channel is closed.
    process.once('exit', this.#kill);
    if (this.#child.stderr !== null) readLines(this.#child.stderr, MAX_LINE, onLine);
    this.#limitStart();
    this.#send({ type: 'start', settings });
  }

  get pid(): number | undefined {
    return this.#child.pid;
  }

  /** Whether `end` was called: nobody needs it any more. */
  get isEnding(): boolean {
    return this.#isEnding;
  }

  /** Whether it takes calls, once it is ready. */
  get isOpen(): boolean {
    return !this.#isEnding && this.#reason === undefined && this.#how === undefined;
  }

  /**
   * Runs a call, when it is ready. After the call's signal is aborted this settles only when the handler has ended.
   * @throws ProcessEnded when the process ends, or has ended; the signal's reason when that was aborted before
   */
  async run(call: IsolatedCall): Promise<unknown> {
    if (this.#how !== undefined) throw new ProcessEnded(this.#how, 'not sent');
    const number = this.#calls++;
    const { id, key, action, work, repeated, parameters, token, caller, traceId, unitNames, units } = call;
    const { deadline, signal } = call;
    const trace = this.#options.activeTrace?.();
    this.#watchDrain(call);
    return new Promise((resolve, reject) => {
      const onAbort = () => this.#stop(number);
      const states = { progress: 'sent', cancelStop: () => {}, isOverdue: false } as const;
      this.#running.set(number, { call, resolve, reject, onAbort, ...states });
      const leftMs = deadline - this.#options.clock.now();
      try {
        const named = {
          id,
          key,
          action,
          work,
          repeated,
          parameters,
          token,
          caller,
          traceId,
          unitNames,
          units,
        };
        this.#send({ type: 'run', call: number, trace, leftMs, ...named });
      } catch (error) {
        // The parameters hold something that cannot be copied.
        return this.#settle(number, (running) => running.reject(error));
      }
      if (signal.aborted) onAbort();
      else signal.addEventListener('abort', onAbort, { once: true });
    });
  }

  /** Tells the process, once for all of its calls, that the service begins to stop. */
  #watchDrain({ drain: { signal }, drain }: IsolatedCall): void {
    if (this.#unwatchDrain !== undefined) return;
    const tell = () => {
      const reportWithinMs = drain.reportBy - this.#options.clock.now();
      this.#send({ type: 'drain', reportWithinMs });
    };
    this.#unwatchDrain = () => signal.removeEventListener('abort', tell);
    if (signal.aborted) tell();
    else signal.addEventListener('abort', tell, { once: true });
  }

  /** Resolves when it has responded to this question: it is not blocked then; or when it has ended. */
  async responds(): Promise<void> {
    if (this.#how !== undefined) return;
    const cancel = this.#options.clock.after(STOP_MS, () => {
      // What runs in it has time limits of its own.
      if (this.#running.size === 0) this.#killFor(`it did not respond for ${STOP_MS} ms`);
    });
    await new Promise<void>((resolve) => {
      this.#pings.push(resolve);
      this.#send({ type: 'ping' });
    });
    cancel();
  }

  /** Lets it clean up and end; kills it after this time in milliseconds. */
  async end(withinMs: number): Promise<void> {
    if (!this.#isEnding) {
      this.#isEnding = true;
      this.#cancelLimit();
      this.#cancelLimit = this.#options.clock.after(withinMs, this.#kill);
      if (this.#isReady) this.#send({ type: 'end', withinMs });
      else this.#kill();
    }
    await this.ended;
  }

  /** Begins the time limit of the start, or of its next step. */
  #limitStart(): void {
    if (this.#isEnding) return;
    this.#cancelLimit();
    this.#cancelLimit = this.#options.clock.after(START_MS, () =>
      this.#killFor(`it made no progress for ${START_MS} ms while it started`),
    );
  }

  #send(message: ToHandlerProcess): void {
    // The error is that the process has ended, which `ended` tells.
    this.#child.send(message, () => {});
  }

  #receive(message: Exclude<FromHandlerProcess, { type: 'ready' | 'loading' }>): void {
    if (message.type === 'unusable') this.#reason = message.reason;
    else if (message.type === 'pong') this.#pings.shift()?.();
    else if (message.type === 'began') this.#noteBegin(message.call);
    else if (message.type === 'responded') this.#running.get(message.call)?.call.onResponse();
    else if (message.type === 'warned') this.#running.get(message.call)?.call.onWarning(...message.warning);
    else if (message.type === 'enter') void this.#enter(message);
    else if (message.type === 'leave') void this.#leave(message);
    else if (message.type === 'done') this.#settle(message.call, ({ resolve }) => resolve(message.body));
    else this.#settle(message.call, ({ call, reject }) => reject(errorOf(message.thrown, call.signal)));
  }

  async #enter({ call, run, within, action, parameters }: Enter): Promise<void> {
    const nested = this.#running.get(call)?.call.nested;
    try {
      if (nested === undefined) throw new Error('the run that calls this action has ended');
      const { units } = await nested.enter({ run, within, action, parameters });
      this.#send({ type: 'entered', call, run, units });
    } catch (error) {
      const body = bodyOf(error);
      const thrown = body === undefined ? unexpected(error) : ({ kind: 'reported', body } as const);
      this.#send({ type: 'refused', call, run, thrown });
    }
  }

  async #leave({ call, run, outcome }: Leave): Promise<void> {
    await this.#running.get(call)?.call.nested?.leave(run, outcome);
    this.#send({ type: 'left', call, run });
  }

  #noteBegin(key: number): void {
    const running = this.#running.get(key);
    if (running !== undefined) running.progress = 'begun';
  }

  #stop(key: number): void {
    const running = this.#running.get(key);
    if (running === undefined) return;
    const { id, signal } = running.call;
    this.#send({ type: 'stop', call: key, reason: settledWith(signal.reason, id).body });
    const overdue = () => {
      running.isOverdue = true;
      this.#killIfAllAreOverdue();
    };
    // Nobody waits for what was released, and it may run elsewhere now.
    if (releases(signal.reason)) overdue();
    else running.cancelStop = this.#options.clock.after(STOP_MS, overdue);
  }

  #settle(key: number, settle: (running: Running) => void): void {
    const running = this.#running.get(key);
    if (running === undefined) return;
    this.#running.delete(key);
    running.cancelStop();
    running.call.signal.removeEventListener('abort', running.onAbort);
    settle(running);
    this.#killIfAllAreOverdue();
  }

  /** A handler that ignores its signal cannot be stopped in any other way. */
  #killIfAllAreOverdue(): void {
    const running = [...this.#running.values()];
    if (running.length === 0 || !running.every(({ isOverdue }) => isOverdue)) return;
    this.#killFor(
      running.every(({ call }) => releases(call.signal.reason))
        ? GIVEN_BACK
        : `its requests did not end within ${STOP_MS} ms after they were stopped`,
    );
  }

  #killFor(reason: string): void {
    this.#reason = reason;
    this.#kill();
  }

  #end(how: string): void {
    this.#how = how;
    this.#cancelLimit();
    this.#unwatchDrain?.();
    process.removeListener('exit', this.#kill);
    const requests = [...this.#running.values()].map(({ call: { id, action } }) => ({ request: id, action }));
    if (this.#isReady && !this.#isEnding) {
      const { pid } = this.#child;
      const why = this.#reason !== undefined && { reason: this.#reason };
      this.#options.log.warn('handler process ended', { pid, how, ...why, requests });
    }
    for (const resolve of this.#pings.splice(0)) resolve();
    for (const key of this.#running.keys())
      this.#settle(key, ({ call: { signal }, reject, progress }) => {
        if (!signal.aborted) reject(new ProcessEnded(how, progress));
        else reject(progress === 'begun' ? signal.reason : new NeverBegan(signal.reason));
      });
  }
}

type Enter = Extract<FromHandlerProcess, { type: 'enter' }>;
type Leave = Extract<FromHandlerProcess, { type: 'leave' }>;

function unexpected(error: unknown): Thrown {
  return { kind: 'unexpected', text: shown(error) };
}

/** Resolves when the process has ended and all that it has sent is received, with the exit code, the signal or the failure. */
async function hasEnded(child: ChildProcess): Promise<string> {
  const disconnected = new Promise<void>((resolve) => child.once('disconnect', resolve));
  return new Promise((resolve) => {
    child.once('exit', (code, signal) => {
      const how = code === null ? String(signal) : `exit code ${code}`;
      if (child.connected) void disconnected.then(() => resolve(how));
      else resolve(how);
    });
    // Without a pid it was not started; with one, a signal could not be sent.
    child.on('error', (error) => child.pid === undefined && resolve(error.message));
  });
}

/** What the handler threw, as in this process. */
function errorOf(thrown: Thrown, signal: AbortSignal): unknown {
  if (thrown.kind === 'aborted') return signal.reason;
  if (thrown.kind === 'unexpected') return new HandlerFailure(thrown.text);
  const { code, errors, details } = thrown.body;
  try {
    return new ActionError(code, errors.join(' '), { details });
  } catch (error) {
    // The handler has changed the code to one that is not allowed.
    return error;
  }
}

/** Anything but an `ActionError` that a handler threw. */
class HandlerFailure extends Error {
  override readonly name = 'HandlerFailure';

  /** @param text its stack in the process */
  constructor(text: string) {
    super(text.split('\n', 1)[0]);
    this.stack = text;
  }
}
