import { receiveMessageOnPort, workerData } from 'node:worker_threads';
import { BlockedCheck } from './blocked-check.js';
import { pausedAt } from './blocked-stack.js';
import { endProcess } from './end-process.js';
import { SyncLog } from './sync-log.js';
import { runningFields, type SharedActivity } from './activities.js';
import { startThread } from './start-thread.js';
import { LOADING, STOPPED, type ThreadData, TICKS } from './thread-data.js';

/** How long to wait for the stack of the main thread, in milliseconds. */
const STACK_MS = 1_000;
/** How long packages may take to load, in milliseconds: on a machine with much other work it takes seconds. */
const LOAD_MS = 60_000;

// The thread of the watchdog. It waits without an event loop, which costs less CPU time.
const { state, activities, seconds, periodMs, format }: ThreadData = workerData;
const limitMs = seconds * 1_000;
const check = new BlockedCheck({ limitMs, periodMs }, Atomics.load(state, TICKS), performance.now());

do {
  Atomics.wait(state, STOPPED, 0, periodMs);
} while (Atomics.load(state, STOPPED) === 0 && !isBlocked());
if (Atomics.load(state, STOPPED) === 0) {
  // The report may wait for ever, such as for a reader of standard error.
  startThread('last-resort-thread');
  void report().finally(endProcess);
}

function isBlocked(): boolean {
  // In this order: the main thread ticks before it says that a package is loaded.
  const isLoading = Atomics.load(state, LOADING) > 0;
  const limit = isLoading ? Math.max(limitMs, LOAD_MS) : limitMs;
  return check.isBlocked(Atomics.load(state, TICKS), performance.now(), limit);
}

async function report(): Promise<void> {
  const running = runningFields(knownActivities());
  const log = new SyncLog(format);
  const where = await pausedAt(STACK_MS).catch(() => []);
  log.error('event loop blocked', { seconds, ...running, ...(where.length > 0 && { where }) });
}

/** What the main thread has posted so far; this works while it is blocked. */
function* knownActivities(): Generator<SharedActivity> {
  for (;;) {
    const next = receiveMessageOnPort(activities);
    if (next === undefined) return;
    yield next.message;
  }
}
