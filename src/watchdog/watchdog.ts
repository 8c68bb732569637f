import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { MessageChannel } from 'node:worker_threads';
import type { Activity, PluginWatch } from '../core/plugin-watch.js';
import { PACKAGE_LOADING } from '../lib/when-used.js';
import type { LogFormat } from '../telemetry/log-line.js';
import { runningFields, type SharedActivity, sharedActivity } from './activities.js';
import { reportExit } from './exit-report.js';
import { SyncLog } from './sync-log.js';
import { startThread } from './start-thread.js';
import { LOADING, STATE_LENGTH, STOPPED, type ThreadData, TICKS } from './thread-data.js';

export interface WatchdogOptions {
  /** How long the event loop may be blocked, in seconds; 0: for ever. */
  seconds: number;
  /** The format of the log, of which the line is. */
  format: LogFormat;
}

export interface Watchdog extends PluginWatch {
  /** Call this before the process exits: otherwise the exit is logged as unexpected, and its code is not 0. */
  exitExpected(): void;
  /** Ends the watching, and expects an exit. */
  stop(): void;
}

/** How many times in the time limit the main thread ticks, at least. */
const TICKS_IN_LIMIT = 8;
const MAX_PERIOD_MS = 1_000;

/**
 * Ends this process when its event loop is blocked: a thread of its own then writes one line to standard error that names
 * the code of plugins that runs, `event loop blocked`, and kills the process. What `whenUsed` loads may take longer. An unexpected exit is logged too. It keeps no
 * process alive. It costs 10 MB of memory, and 0.3 ms of CPU time per second. Call it in the main thread of a process, once
 * at a time.
 */
export function startWatchdog({ seconds, format }: WatchdogOptions): Watchdog {
  const log = new SyncLog(format);
  const known = new Map<string, SharedActivity & Activity>();
  const watching = seconds > 0 ? startWatching({ seconds, format }, log) : undefined;
  const exitExpected = reportExit(log, () => runningFields(known.values()));
  const activity = (kind: SharedActivity['kind'], name: string): Activity => {
    const key = `${kind} ${name}`;
    const earlier = known.get(key);
    if (earlier !== undefined) return earlier;
    const added = sharedActivity(kind, name);
    known.set(key, added);
    watching?.tell({ kind, name, count: added.count });
    return added;
  };
  return {
    loading: (folder) => activity('loading', folder),
    action: (name) => activity('action', name),
    exitExpected,
    stop: () => {
      exitExpected();
      watching?.stop();
    },
  };
}

interface Watching {
  tell(activity: SharedActivity): void;
  stop(): void;
}

function startWatching({ seconds, format }: WatchdogOptions, log: SyncLog): Watching {
  const state = new Int32Array(new SharedArrayBuffer(STATE_LENGTH * Int32Array.BYTES_PER_ELEMENT));
  const { port1, port2 } = new MessageChannel();
  const periodMs = Math.min(MAX_PERIOD_MS, (seconds * 1_000) / TICKS_IN_LIMIT);
  const workerData: ThreadData = { state, activities: port2, seconds, periodMs, format };
  const thread = startThread('watchdog-thread', { workerData, transferList: [port2] });
  thread.on('error', (error) => log.error('watchdog failed', { error }));
  const ticking = setInterval(() => Atomics.add(state, TICKS, 1), periodMs);
  const onLoading = (begins: unknown) => {
    Atomics.add(state, TICKS, 1);
    Atomics.add(state, LOADING, begins === true ? 1 : -1);
  };
  subscribe(PACKAGE_LOADING, onLoading);
  for (const each of [thread, port1, ticking]) each.unref();
  return {
    tell: (activity) => port1.postMessage(activity),
    stop: () => {
      clearInterval(ticking);
      unsubscribe(PACKAGE_LOADING, onLoading);
      Atomics.store(state, STOPPED, 1);
      Atomics.notify(state, STOPPED);
      port1.close();
    },
  };
}
