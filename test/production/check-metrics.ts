import type { ExecutionContext } from 'ava';
import { eventually } from '../support/eventually.js';
import { Scrape } from '../support/scrape.js';
import { countsOf, type Entry, isAdmitted, isDenied, type Ledger } from './ledger.js';
import type { RunningWorker, World } from './world.js';

const REQUESTS = 'fleet_manager_requests_total';

/** The actions whose time may be up before they begin: their handlers note that they run. */
const MAY_NOT_BEGIN: ReadonlySet<unknown> = new Set(['slow', 'slow_change']);

/** Checks that the numbers of all workers together are those of the ledger: each of them, and nothing more. */
export async function checkMetrics(
  t: ExecutionContext,
  ledger: Ledger,
  { world, workers }: { world: World; workers: readonly RunningWorker[] },
): Promise<void> {
  const { handled, invalid } = ledger;
  const shown = await eventually('all are counted', async () => {
    const texts = await Promise.all(workers.map(async (worker) => (await worker.scrape()).text));
    const all = new Scrape(texts.join('\n'));
    const isIdle = all.sum('fleet_manager_upstream_calls_in_flight') === 0;
    const isDone =
      isIdle &&
      all.sum(REQUESTS) >= handled.length &&
      all.sum('fleet_manager_dead_letters_total') >= invalid.length;
    return isDone ? all : undefined;
  });
  const runs = await world.runs();
  /** The numbers of a metric, by the values of these labels; without those that are 0. */
  const numbers = (name: string, ...labels: string[]) => {
    const sums: Record<string, number> = {};
    for (const { labels: has, value } of shown.of(name)) {
      const key = labels.map((label) => has[label]).join(' ');
      if (value !== 0) sums[key] = (sums[key] ?? 0) + value;
    }
    return sums;
  };
  const byAction = (entries: readonly Entry[]) => countsOf(entries.map(labelOf));
  const hasBegun = ({ action, id }: Entry) =>
    !MAY_NOT_BEGIN.has(action) || runs.includes(`${String(action)} ${id}`);
  const admitted = handled.filter(isAdmitted);

  t.deepEqual(
    numbers(REQUESTS, 'action', 'code', 'encoding', 'door'),
    countsOf(handled.map((entry) => `${labelOf(entry)} ${entry.got} ${entry.encoding} ${entry.door}`)),
  );
  for (const [name, entries] of [
    ['fleet_manager_request_wait_seconds_count', admitted],
    ['fleet_manager_request_run_seconds_count', admitted.filter(hasBegun)],
    ['fleet_manager_request_reply_seconds_count', handled],
    ['fleet_manager_request_attempts_count', handled],
    ['fleet_manager_request_attempts_sum', handled],
    ['fleet_manager_requests_denied_total', handled.filter(isDenied)],
    ['fleet_manager_replies_dropped_total', handled.filter(({ wantsReply }) => !wantsReply)],
    ['fleet_manager_requests_released_total', []],
    ['fleet_manager_requests_unanswered_total', []],
    ['fleet_manager_requests_waiting', []],
    ['fleet_manager_requests_in_flight', []],
  ] as const)
    t.deepEqual(numbers(name, 'action'), byAction(entries), name);
  t.deepEqual(
    numbers('messaging_process_duration_seconds_count', 'error_type'),
    countsOf(handled.map(({ got }) => (got === 'completed' ? '' : got))),
  );
  t.deepEqual(numbers('fleet_manager_dead_letters_total', 'kind'), { invalid: invalid.length });
  t.deepEqual(numbers('messaging_client_consumed_messages_total', 'messaging_destination_name'), {
    [world.queue]: handled.length + invalid.length,
  });
  t.deepEqual(numbers('fleet_manager_redeliveries_total'), {});

  // Each read of `peek` got the result of a run, and those that did not cause it are counted.
  const peeks = handled.filter(({ action }) => action === 'peek').length;
  const peekRuns = runs.filter((run) => run.startsWith('peek ')).length;
  t.is(numbers('fleet_manager_requests_coalesced_total', 'action').peek ?? 0, peeks - peekRuns);

  const { cluster, discovery, ssh } = world.sandbox;
  for (const [labels, times] of [
    [{ kind: 'fleet' }, cluster.requests.length],
    [{ kind: 'discovery' }, discovery.requests.length],
    [{ kind: 'ssh', operation: 'run journalctl' }, ssh?.commands.length ?? 0],
  ] as const) {
    const calls = (outcome: string) =>
      shown.sum('fleet_manager_upstream_calls_total', { ...labels, outcome });
    // One that was stopped may not have arrived.
    const most = calls('ok') + calls('stopped');
    t.true(calls('ok') <= times && times <= most, `${labels.kind}: ${times} calls, at most ${most}`);
    t.is(calls('failed'), 0);
  }
  const upstream = numbers('fleet_manager_upstream_calls_total', 'kind');
  t.deepEqual(numbers('fleet_manager_upstream_call_seconds_count', 'kind'), upstream);
}

/** The label of the action. */
function labelOf({ action, effect }: Entry): string {
  return effect === undefined ? 'unknown' : String(action);
}
