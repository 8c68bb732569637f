import { ANONYMOUS } from '../../src/api/caller.js';
import type { ChangeClaims } from '../../src/core/change-claims.js';
import type { Call, Settled } from '../../src/core/call.js';
import { CallEventBus } from '../../src/core/call-events.js';
import { Catalogue } from '../../src/core/catalogue.js';
import { prepareAction } from '../../src/core/prepare-action.js';
import type { Middleware } from '../../src/core/middleware.js';
import { Runner, type RunnerOptions } from '../../src/core/runner.js';
import type { Action } from '../../src/plugin.js';
import { FIELD_NAMES } from '../../src/rpc/field-names.js';
import { logRequests } from '../../src/telemetry/request-log.js';
import { doing } from './actions.js';
import { logLines } from './log-lines.js';
import { ManualClock } from './manual-clock.js';
import { planted } from './planted-secrets.js';

interface RunnerSettings
  extends Pick<
    RunnerOptions,
    'policy' | 'clusterName' | 'clusterToken' | 'beforeChange' | 'beforeNested' | 'inContextOf'
  > {
  maxCalls?: number;
  concurrency?: number;
  clusterConcurrency?: number;
  middlewares?: readonly Middleware[];
  isolation?: RunnerOptions['isolation'];
  claims?: ChangeClaims;
}

/** The etcd token of the cluster. */
export const TOKEN = planted('token');

/** A call of the action `act` on a cluster. */
export function callOf(changes: Partial<Call> = {}): Call {
  return {
    id: 'r1',
    action: 'act',
    target: TOKEN,
    parameters: undefined,
    timeoutMs: undefined,
    waitedMs: 0,
    caller: ANONYMOUS,
    door: 'amqp',
    encoding: 'json',
    attempt: 1,
    context: {},
    delivery: 'first',
    mayBeCopy: changes.delivery === 'repeated',
    wantsReply: true,
    wantsParts: false,
    signal: new AbortController().signal,
    ...changes,
  };
}

/** `completed`, `released` or the code of the error. */
export function codeOf(settled: Settled): string {
  return settled.status === 'error' ? settled.body.code : settled.status;
}

/** A runner of these actions, and a manual clock. */
export function openRunner(actions: readonly Action[], settings: RunnerSettings = {}) {
  const clock = new ManualClock();
  const logs = logLines();
  const logFor = (fields: Record<string, unknown>) => logs.log.with(fields);
  const catalogue = new Catalogue(
    actions.map((each) => prepareAction(each, () => undefined, { parametersName: FIELD_NAMES.parameters })),
  );
  const events = new CallEventBus(logs.log);
  logRequests(events, logFor);
  /** The unexpected errors. */
  const unexpected: { action: unknown; code: string; message: string | undefined }[] = [];
  events.on('answered', ({ call: { action }, reply }) => {
    if (reply.status === 'error' && ['internal', 'timeout'].includes(reply.body.code))
      unexpected.push({ action, code: reply.body.code, message: reply.body.errors[0] });
  });
  const runner = new Runner({
    catalogue,
    events,
    names: FIELD_NAMES,
    clock,
    logFor,
    maxCalls: 200,
    concurrency: 50,
    clusterConcurrency: 20,
    ...settings,
  });
  /** Runs a call, and replies as a transport does. */
  const ask = async (changes?: Partial<Call>): Promise<Settled> => {
    const call = callOf(changes);
    const settled = await runner.run(call);
    if (settled.status !== 'released')
      events.emit('answered', { call, reply: settled, dropped: false, at: clock.now() });
    return settled;
  };
  return {
    runner,
    events,
    ask,
    /** The same, as `completed`, `released` or the code of the error. */
    codeFor: async (changes?: Partial<Call>) => codeOf(await ask(changes)),
    drain: async (graceMs: number) => runner.drain(graceMs),
    running: () => runner.running(),
    clock,
    logs,
    unexpected,
  };
}

/** Waits until everything has happened that needs no time. */
export const settle = async () => new Promise(setImmediate);

/** The value of a promise so far; undefined: it is pending. */
export function watched<T>(promise: Promise<T>): () => T | undefined {
  let given: T | undefined;
  void promise.then((value) => (given = value));
  return () => given;
}

/** An action that ignores its signal and never ends. */
export const deaf = (definition: Parameters<typeof doing>[1] = {}) =>
  doing(() => new Promise(() => {}), definition);

/** An action whose runs end as the test says. */
export function steered(definition: Parameters<typeof doing>[1] = {}) {
  const runs: { signal: AbortSignal; resolve: (result: object) => void; reject: (error: unknown) => void }[] =
    [];
  const action = doing(
    async ({ signal }) =>
      new Promise<object>((resolve, reject) => {
        runs.push({ signal, resolve, reject });
      }),
    definition,
  );
  return { action, runs };
}
