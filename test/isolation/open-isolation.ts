import { randomUUID } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { ANONYMOUS } from '../../src/api/caller.js';
import type { IsolatedCall } from '../../src/core/isolation.js';
import { ServiceDrain } from '../../src/core/service-drain.js';
import { ForkedIsolation } from '../../src/isolation/forked-isolation.js';
import type { HandlerSettings } from '../../src/isolation/messages.js';
import { type Clock, systemClock } from '../../src/lib/clock.js';
import { HUNG_MS } from '../support/eventually.js';
import { logLines } from '../support/log-lines.js';
import { folder, read, REACHES_NOTHING } from '../support/settings.js';
import { writePlugin } from '../support/write-plugin.js';

const MODULE = new URL('../../src/isolated-handlers.js', import.meta.url);

/**
 * What the handler of `act` may do, by the parameter `does`. With `times`, it does so only in that many runs, and then
 * returns; it counts them in a file that is named after the request.
 */
const SOURCE = (counts: string) => `
  import { appendFileSync, readFileSync } from 'node:fs';
  import { ActionError, Clock, defineAction } from 'fleet-manager/plugin';
  import { mixed, number, object, string } from 'yup';
  const anything = () => mixed().meta({ format: 'anything', description: 'Anything.' });
  class Row { name = 'web'; }
  const circular = {};
  circular.self = circular;
  const aborted = (signal) => signal.aborted || new Promise((resolve) => signal.addEventListener('abort', resolve));
  const doings = {
    exit: () => process.exit(7),
    kill: () => { process.kill(process.pid, 'SIGKILL'); return new Promise(() => {}); },
    uncaught: () => { setTimeout(() => { throw new Error('in a timer'); }); return new Promise(() => {}); },
    never: () => new Promise(() => {}),
    pid: () => process.pid,
    sends: () => { process.send(null); process.send('ready'); return 'sent'; },
    settings: ({ settings }) => ({ settings, isFrozen: Object.isFrozen(settings.hosts) }),
    argv: () => [process.argv, process.execArgv, Object.values(process.env)].flat(),
    request: ({ id, caller, repeated, deadline, cluster, parameters }, { clock }) =>
      ({ id, caller, repeated, leftMs: deadline - clock.now(), cluster, parameters }),
    types: () => ({ big: 2n ** 70n, at: new Date(0), own: { toJSON: () => ({ text: 'from toJSON' }) }, none: undefined, list: [null, 'é', 1.5, false] }),
    large: () => Array.from({ length: 8 * 1024 }, (_, n) => ({ n, text: 'x'.repeat(1_000) })),
    huge: () => Array.from({ length: 20 * 1024 }, (_, n) => ({ n, text: 'x'.repeat(1_000) })),
    row: () => ({ rows: [new Row()] }),
    map: () => ({ states: new Map() }),
    stream: () => ({ log: process.stdin }),
    function: () => ({ run: () => {} }),
    circular: () => circular,
    report: () => { throw new ActionError('unit_not_found', 'no such unit', { details: { units: [1n] } }); },
    badCode: () => { throw Object.assign(new ActionError('known', 'so'), { code: 'Not Allowed' }); },
    badDetails: () => { throw new ActionError('known', 'so', { details: { run: () => {} } }); },
    defect: () => { throw new TypeError('a defect', { cause: new Error('the cause') }); },
    nothing: () => { throw undefined; },
    exitWhenStopped: async ({ signal }) => { await aborted(signal); process.exit(7); },
    aborted: async ({ signal }) => { await aborted(signal); throw signal.reason; },
    reports: async ({ signal }) => { await aborted(signal); throw new ActionError('unit_stopped', signal.reason.code + ': ' + signal.reason.message); },
    drains: async ({ drain, signal }, { clock }) => { await aborted(drain.signal); return { leftMs: drain.reportBy - clock.now(), stopped: signal.aborted }; },
    warns: ({ warn }) => { for (let n = 0; n < 1_000; n++) warn('warning ' + n % 3, n % 3 === 2 ? { unreachable: [{ host: 'h' + n % 2, code: 'c', reason: 'r' }] } : undefined); return 'warned'; },
    logs: ({ log }) => { log.info('it logs', { n: 1 }); console.log('it prints'); return 'logged'; },
    blocks: () => { for (;;); },
    signals: () => { for (const each of ['SIGTERM', 'SIGINT', 'SIGHUP']) process.kill(process.pid, each); return new Promise((resolve) => setTimeout(() => resolve('alive'), 50)); },
  };
  export default defineAction({
    name: 'act', summary: 'Does what the test says.', target: 'optional', effect: 'read',
    parameters: object({
      does: string().required().meta({ description: 'What it does.' }),
      times: number().meta({ description: 'In how many runs.' }),
      value: anything(),
    }),
    settings: object({ key: string().meta({ description: 'A key.' }), hosts: anything() }),
    result: anything(),
    inject: { clock: Clock },
    async handle(request, injected) {
      const { does, times = Infinity } = request.parameters;
      const file = ${JSON.stringify(`${counts}/`)} + request.id;
      appendFileSync(file, process.pid + '\\n');
      if (readFileSync(file, 'utf8').trim().split('\\n').length > times) return 'ran';
      return doings[does](request, injected);
    },
    dispose: () => appendFileSync(${JSON.stringify(`${counts}/disposed`)}, process.pid + '\\n'),
  });
`;

type Changes = Partial<IsolatedCall> & { times?: number; value?: unknown };

export interface OpenIsolation {
  isolation: ForkedIsolation;
  /** A call of `act`. */
  callOf: (does: string, changes?: Changes) => IsolatedCall;
  /** Runs `act`. */
  act: (does: string, changes?: Changes) => Promise<unknown>;
  /** The log of the service. */
  logs: ReturnType<typeof logLines>;
  /** The lines of the log of the processes, parsed. */
  lines: Record<string, unknown>[];
  /** The process of each run of the request with this id so far; with `disposed`, those that have cleaned up. */
  runs: (id: string) => Promise<string[]>;
}

interface IsolationSettings {
  clock?: Clock;
  env?: Record<string, string>;
  /** The program of the processes. */
  module?: URL;
  pluginSettings?: HandlerSettings['pluginSettings'];
}

/** An isolation with real processes, which end with the test. */
export async function openIsolation(
  t: ExecutionContext,
  { clock = systemClock, env = {}, module = MODULE, pluginSettings = {} }: IsolationSettings = {},
): Promise<OpenIsolation> {
  const counts = await folder(t);
  const paths = await writePlugin(t, 'act', SOURCE(counts));
  const { environment, plugins, clusters, ssh, rpc, log, watchdogSeconds, hostname } = read({
    ...REACHES_NOTHING,
    PLUGIN_PATHS: paths,
    LOG_FORMAT: 'json',
    ...env,
  });
  const settings: HandlerSettings = {
    environment,
    plugins,
    pluginSettings,
    clusters,
    ssh,
    log,
    maxReplyBytes: rpc.maxReplyBytes,
    watchdogSeconds,
    hostname,
  };
  const logs = logLines();
  const lines: Record<string, unknown>[] = [];
  const isolation = new ForkedIsolation({
    module,
    settings,
    clock,
    log: logs.log,
    onLine: (line) => lines.push(JSON.parse(line)),
  });
  // The limit is by the clock of the test, which may stand still.
  t.teardown(async () => isolation.close(0));
  const callOf: OpenIsolation['callOf'] = (does, { times, value, ...changes } = {}) => ({
    id: randomUUID(),
    key: undefined,
    action: 'act',
    work: 'run',
    repeated: true,
    parameters: { does, times, value },
    token: undefined,
    caller: ANONYMOUS,
    traceId: undefined,
    unitNames: [],
    units: undefined,
    deadline: clock.now() + HUNG_MS,
    onProcessEnd: 'run-alone',
    isAlone: false,
    signal: new AbortController().signal,
    drain: new ServiceDrain(),
    nested: undefined,
    onWarning: () => {},
    onResponse: () => {},
    ...changes,
  });
  return {
    isolation,
    callOf,
    act: async (does, changes) => isolation.run(callOf(does, changes)),
    logs,
    lines,
    runs: async (id) =>
      (await readFile(join(counts, id), 'utf8').catch(() => '')).split('\n').filter((pid) => pid !== ''),
  };
}
