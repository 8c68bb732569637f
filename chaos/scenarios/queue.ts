import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Channel } from 'amqplib';
import { eventually } from '../../test/support/eventually.js';
import { startProxy } from '../../test/support/proxy.js';
import type { Outcome, Run, Scenario } from '../scenario.js';
import { Caller, type Queues } from '../support/caller.js';
import { loseConnections, takeRequestsAgain } from '../support/connection-losses.js';
import { type Allowed, type Audit, CHANGE, DEAD_LETTERED, type Entry, Ledger } from '../support/ledger.js';
import { mixedRequests } from '../support/mixed-requests.js';
import { stopWorkers } from '../support/stop-workers.js';
import { within } from '../support/within.js';
import { Worker } from '../support/worker.js';

const IN_FLIGHT = 5;
/** Only ends what hangs, in milliseconds. */
const HANGS_MS = 60_000;
/** The broker's limit. */
const MAX_MESSAGE_BYTES = 64 * 1024;
/** The service's. */
const MAX_REQUEST_BYTES = 32 * 1024;
const QUIET_MS = 300;
/** Less than usual: an operator removes requests here. */
const PATIENCE_MS = 2_000;

/** A queue, its caller and its worker. */
interface Part {
  queue: string;
  ledger: Ledger;
  caller: Caller;
  worker: Worker;
  misses: string[];
}

export const queue: Scenario = {
  name: 'queue',
  goal: 'a queue that is deleted, purged, full or of another kind, and a broker that refuses replies, cost only what they must',
  async run(run) {
    const parts = { purgedAndDeleted, full, limitedDeliveries, noWritePermission, smallMessages };
    const figures: Outcome['figures'] = {};
    const misses: string[] = [];
    // At the same time, each on a queue of its own: they wait for most of it.
    const ends = Object.entries(parts).map(async ([name, part]) => {
      const { audit, missed } = await part(run);
      figures[name] = Object.entries(audit)
        .filter(([, count]) => count > 0)
        .map(([what, count]) => `${count} ${what}`)
        .join(' + ');
      misses.push(...missed.map((miss) => `${name}: ${miss}`));
    });
    await Promise.all(ends);
    return { figures, misses };
  },
};

interface Ended {
  audit: Audit;
  missed: string[];
}

interface Opening extends Queues {
  url?: string;
  env?: Record<string, string>;
  allows?: Allowed;
}

async function open(
  run: Run,
  { url = run.broker.url, env = {}, allows = {}, ...queues }: Opening = {},
): Promise<Part> {
  const name = `chaos_queue_${randomUUID()}`;
  const ledger = new Ledger(run, { allows });
  const caller = await Caller.open(run, run.broker.url, name, ledger, queues);
  const worker = Worker.start(run, { queue: name, url, env: { ...ledger.env, ...env } });
  return { queue: name, ledger, caller, worker, misses: [] };
}

/** A channel of the operator's. */
async function channelTo(run: Run): Promise<Channel> {
  const connection = await run.broker.open();
  run.teardown(async () => connection.close());
  return connection.createChannel();
}

async function logs(worker: Worker, message: string): Promise<boolean> {
  const logged = worker.logged(message).then(() => true);
  return within(HANGS_MS, logged, false);
}

async function end({ ledger, worker, misses }: Part): Promise<Ended> {
  await ledger.settled();
  const exits = await stopWorkers([worker]);
  const audit = ledger.audit();
  return { audit, missed: [...ledger.misses(audit), ...exits, ...misses] };
}

/** Under load until `work` is over. */
async function loaded({ caller }: Part, run: Run, work: () => Promise<void>): Promise<void> {
  let over = false;
  const load = caller.load(IN_FLIGHT, mixedRequests(run.random), () => over, PATIENCE_MS);
  await work().finally(() => (over = true));
  await load;
}

/** What was in the queue is gone, and nobody can answer it; what comes later is owed. */
async function purgedAndDeleted(run: Run): Promise<Ended> {
  const part = await open(run, { allows: { none: [DEAD_LETTERED] } });
  const { ledger, caller, worker, misses } = part;
  await worker.ready;
  const operator = await channelTo(run);
  await loaded(part, run, async () => {
    for (const remove of ['purgeQueue', 'deleteQueue'] as const) {
      await sleep(QUIET_MS);
      await operator[remove](part.queue);
      const again = await within(HANGS_MS, untilAnswered(caller), undefined);
      if (again === undefined) misses.push(`the service did not consume again after ${remove}`);
      for (const entry of ledger.owed()) entry.sending = 'uncertain';
    }
    await operator.deleteQueue(`${part.queue}_error`);
    await caller.sendRaw(Buffer.from('no request'), { action: 'none' }, { replyTo: undefined });
  });
  return end(part);
}

async function untilAnswered(caller: Caller): Promise<true> {
  for (;;) {
    const { replies } = await caller.ask({ action: 'chaos_read' }, 1_000);
    if (replies.length > 0) return true;
  }
}

/** The error queue is full for a time: what it refuses waits, and requests are answered meanwhile. */
async function full(run: Run): Promise<Ended> {
  const errorQueue = { maxLength: 1, arguments: { 'x-overflow': 'reject-publish' } };
  const part = await open(run, { errorQueue, takesDeadLetters: false, allows: { none: [DEAD_LETTERED] } });
  const { queue: name, caller, worker, misses } = part;
  await worker.ready;
  const operator = await channelTo(run);
  operator.sendToQueue(`${name}_error`, Buffer.from('of somebody else'));
  // The response to it says that the broker has the message.
  await operator.checkQueue(`${name}_error`);
  await loaded(part, run, async () => {
    await caller.sendRaw(Buffer.from('no request'), { action: 'none' }, { replyTo: undefined });
    if (!(await logs(worker, 'queue full'))) misses.push('the service did not say that a queue is full');
    caller.takeDeadLetters();
    if (!(await logs(worker, 'queue no longer full')))
      misses.push('the service did not say that the queue has room again');
  });
  return end(part);
}

/** A quorum queue, which counts deliveries: it dead-letters what it has delivered four times. */
async function limitedDeliveries(run: Run): Promise<Ended> {
  const link = await startProxy(run, run.broker);
  const url = `amqp://guest:guest@127.0.0.1:${link.port}`;
  // A change that was delivered before it came is unknown.
  const allows = { [CHANGE]: ['outcome_unknown', DEAD_LETTERED], chaos_read: [DEAD_LETTERED] };
  const part = await open(run, {
    url,
    allows,
    queue: { arguments: { 'x-queue-type': 'quorum', 'x-delivery-limit': 3 } },
  });
  const { worker, misses } = part;
  await worker.ready;
  await loaded(part, run, async () => {
    for (let left = run.long ? 20 : 5; left > 0; left--) {
      await sleep(run.random.between(100, 500));
      await loseConnections([worker], () => link.cut());
      if ((await takeRequestsAgain([worker])) === undefined)
        misses.push('the service did not take requests again');
    }
  });
  return end(part);
}

/** The worker may not write: its replies wait until it may. */
async function noWritePermission(run: Run): Promise<Ended> {
  const user = `chaos_${randomUUID()}`;
  const permit = async (write: string) => run.broker.ctl('set_permissions', user, '.*', write, '.*');
  await run.broker.ctl('add_user', user, 'secret');
  await permit('^$');
  const part = await open(run, { url: `amqp://${user}:secret@127.0.0.1:${run.broker.port}` });
  const { caller, worker, misses } = part;
  for (const action of [CHANGE, 'chaos_read'])
    for (let left = 10; left > 0; left--) await caller.send({ action });
  if (!(await logs(worker, 'replies refused')))
    misses.push('the service did not say that its replies are refused');
  await permit('.*');
  return end(part);
}

/** A broker and a service with small limits: a reply or a request beyond them is refused, and no other one suffers. */
async function smallMessages(run: Run): Promise<Ended> {
  const limit = async (bytes: number) =>
    run.broker.ctl('eval', `application:set_env(rabbit, max_message_size, ${bytes}).`);
  await limit(MAX_MESSAGE_BYTES);
  run.teardown(async () => void (await limit(128 * 2 ** 20)));
  const part = await open(run, {
    env: { MAX_MESSAGE_BYTES: String(MAX_REQUEST_BYTES) },
    allows: { [CHANGE]: ['invalid_request', DEAD_LETTERED], chaos_read: ['answer_too_large'] },
  });
  const { caller, worker, misses } = part;
  await worker.ready;
  await loaded(part, run, async () => {
    const large: Entry[] = [];
    for (let left = 10; left > 0; left--) {
      const parameters = { unit: 'x'.repeat(MAX_REQUEST_BYTES) };
      large.push(await caller.send({ action: CHANGE, parameters }));
    }
    await eventually('each large request is refused', () =>
      large.every(({ replies, deadLetters }) => replies.length > 0 && deadLetters.length > 0),
    );
    for (const { replies, deadLetters } of large) {
      const told = [...replies.map(({ outcome }) => outcome), ...deadLetters].join(', ');
      if (!/^invalid_request, .*MAX_MESSAGE_BYTES is \d+$/.test(told))
        misses.push(`a request that is too large became ${told}`);
    }
    for (let left = 10; left > 0; left--) {
      const parameters = { bytes: MAX_MESSAGE_BYTES };
      const { replies } = await caller.ask({ action: 'chaos_read', parameters });
      if (replies[0]?.outcome !== 'answer_too_large')
        misses.push(`a reply that is too large became ${replies[0]?.outcome}`);
    }
  });
  if (worker.count('broker connection lost') > 0) misses.push('a large reply cost the connection');
  return end(part);
}
