import { randomUUID } from 'node:crypto';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { fieldsOf } from '../../src/lib/fields-of.js';
import type { SandboxUnit } from '../../src/sandbox/cluster.js';
import { startSandbox } from '../../src/sandbox/sandbox.js';
import { rabbitmq, type TestBroker } from '../support/brokers.js';
import { eventually, HUNG_MS } from '../support/eventually.js';
import { ManualClock } from '../support/manual-clock.js';
import { service } from '../support/open-sandbox.js';
import { hasEtcd } from '../support/own-etcd.js';
import { RawCaller } from '../support/requests.js';
import { folder } from '../support/settings.js';
import { startWorker, type Worker } from '../support/worker.js';
import { endAllWorkers } from './open-store.js';
import { twoWorkers } from './open-workers.js';

// Changes of a fleet cluster by two workers, on a real RabbitMQ and a real etcd: what fleet is told is counted where it comes in.
const rabbit = hasEtcd ? rabbitmq() : undefined;

interface Change {
  action: string;
  from: NonNullable<SandboxUnit['desiredState']>;
  more?: object;
  /** What fleet is told, once. */
  order: 'PUT' | 'DELETE';
  did: string;
  /** What really happens to the unit. */
  events: string;
}

const CHANGES: readonly Change[] = [
  { action: 'start_unit', from: 'loaded', order: 'PUT', did: 'started', events: 'started' },
  { action: 'stop_unit', from: 'launched', order: 'PUT', did: 'stopped', events: 'stopped' },
  { action: 'load_unit', from: 'inactive', order: 'PUT', did: 'loaded', events: '' },
  { action: 'unload_unit', from: 'launched', order: 'PUT', did: 'unloaded', events: 'stopped' },
  {
    action: 'put_unit',
    from: 'launched',
    more: { text: '[Service]\nExecStart=/bin/new\n' },
    order: 'PUT',
    did: 'replaced',
    events: 'stopped,started',
  },
  {
    action: 'destroy_unit',
    from: 'launched',
    more: { confirm: 'destroy_unit.service' },
    order: 'DELETE',
    did: 'stopped and removed',
    events: 'stopped',
  },
];

/** A change of the unit that has the name of its action. */
const unitOf = ({ action }: Pick<Change, 'action'>) => `${action}.service`;

/** A cluster with a unit for each change, in which nothing happens until the test lets time pass; and a queue of two workers. */
async function world(t: ExecutionContext, broker: TestBroker, changes: readonly Change[] = CHANGES) {
  const { queue, etcd, a, b, proxyOfA, proxyOfB } = await twoWorkers(t, broker);
  const clock = new ManualClock();
  const sandbox = await startSandbox({
    clock,
    units: CHANGES.map((change) => ({
      name: unitOf(change),
      options: service('/bin/old'),
      desiredState: change.from,
    })),
  });
  t.teardown(async () => sandbox.stop());
  const { cluster } = sandbox;
  const directory = await folder(t, {
    'clusters.json': JSON.stringify({ test: [`http://127.0.0.1:${sandbox.fleetPort}`] }),
  });
  const clusters = { CLUSTERS_FILE: join(directory, 'clusters.json'), ALLOWED_HOSTS: '127.0.0.0/8' };
  const ordersFor = (change: Change) =>
    cluster.requests
      .filter(({ method, path }) => method !== 'GET' && path.includes(`/${unitOf(change)}`))
      .map(({ method }) => method);
  return {
    proxyOfA,
    proxyOfB,
    /** Kills the only worker; etcd notices it at once. */
    kill: async ({ process, ended }: Worker) => {
      process.kill('SIGKILL');
      await ended;
      await endAllWorkers(etcd);
    },
    startA: async () => startWorker(t, { ...a, ...clusters }),
    startB: async () => startWorker(t, { ...b, ...clusters }),
    caller: await RawCaller.open(t, broker, queue),
    cluster,
    ordersFor,
    /** fleet has got all orders, and has carried out none. */
    allOrdered: async () =>
      eventually('fleet is told', () => changes.every((change) => ordersFor(change).length > 0)),
    /** Lets fleet carry out what it was told, and a machine report it. */
    goOn: async () => {
      for (let times = 0; times < 20; times++) {
        clock.advance(1_000);
        await new Promise(setImmediate);
      }
    },
    eventsOf: (change: Change) =>
      cluster
        .history(unitOf(change))
        .map(({ what }) => what)
        .join(),
  };
}

/** Sends each of the changes. @returns the names of the replies, in order */
function sendAll(caller: RawCaller, changes: readonly Change[] = CHANGES): string[] {
  return changes.map(({ action, more }) =>
    caller.send(
      {
        action,
        etcd_token: 'test',
        action_parameters: { unit_name: unitOf({ action }), ...more },
      },
      { messageId: randomUUID(), persistent: true, headers: { 'timeout-ms': HUNG_MS } },
    ),
  );
}

const changeIn = (body: unknown): Record<string, unknown> => {
  const { changes } = fieldsOf(body);
  return fieldsOf(Array.isArray(changes) ? changes[0] : undefined);
};

if (rabbit !== undefined) {
  test('each change of a fleet cluster that two workers get at the same time is ordered once, and both tell the same of it', async (t) => {
    const { proxyOfA, proxyOfB, startA, startB, caller, ...rest } = await world(t, rabbit);
    await startA();
    const second = await startB();
    const linesOfB = (text: string) => second.lines.filter(({ message }) => message === text).length;
    // The first one gets the requests.
    proxyOfB.refuse();
    await eventually('it is noticed', () => linesOfB('broker connection lost') === 1);
    const replies = sendAll(caller);
    await rest.allOrdered();
    proxyOfB.accept();
    await eventually('it takes requests again', () => linesOfB('accepting requests') === 2);
    proxyOfA.refuse();
    await eventually(
      'it gets them',
      () => linesOfB('request moved to the queue of suspects') === CHANGES.length,
    );
    await rest.goOn();
    for (const [index, change] of CHANGES.entries()) {
      const { answer } = await caller.replyFor(replies[index] ?? '');
      t.is(answer.status, 'completed', `${change.action}: ${JSON.stringify(answer)}`);
      t.like(changeIn(answer.response_body), { did: change.did, error: null }, change.action);
    }
    t.is(linesOfB('recorded outcome reused'), CHANGES.length);
    proxyOfA.accept();
    for (const [index, change] of CHANGES.entries()) {
      const reply = replies[index] ?? '';
      await eventually(`both answer ${change.action}`, () => caller.repliesFor(reply).length === 2);
      const [one, other] = caller.repliesFor(reply).map(({ content }) => content.toString());
      t.is(one, other, change.action);
      t.deepEqual(rest.ordersFor(change), [change.order], change.action);
      t.is(rest.eventsOf(change), change.events, change.action);
    }
  });

  test('each change of a fleet cluster whose worker is killed in the middle is ordered once, and answered by the next worker', async (t) => {
    const { startA, startB, caller, ...rest } = await world(t, rabbit);
    const first = await startA();
    const replies = sendAll(caller);
    await rest.allOrdered();
    await rest.kill(first);
    await startB();
    await rest.goOn();
    for (const [index, change] of CHANGES.entries()) {
      const { answer } = await caller.replyFor(replies[index] ?? '');
      t.is(answer.status, 'completed', `${change.action}: ${JSON.stringify(answer)}`);
      t.is(changeIn(answer.response_body).error, null, change.action);
      t.deepEqual(rest.ordersFor(change), [change.order], change.action);
      t.is(rest.eventsOf(change), change.events, change.action);
    }
  });

  test('a change of a fleet cluster whose worker is killed before fleet has read the order is not ordered by the next worker', async (t) => {
    // The others are ordered in the same way.
    const different = CHANGES.filter(({ action }) =>
      ['start_unit', 'put_unit', 'destroy_unit'].includes(action),
    );
    const { startA, startB, caller, cluster, ...rest } = await world(t, rabbit, different);
    const first = await startA();
    const end = cluster.fail({ kind: 'hang', path: '/fleet/v1/units/', method: 'PUT' });
    const endRemoval = cluster.fail({ kind: 'hang', path: '/fleet/v1/units/', method: 'DELETE' });
    const replies = sendAll(caller, different);
    await rest.allOrdered();
    await rest.kill(first);
    const ordered = different.map((change) => rest.ordersFor(change).length);
    await Promise.all([end(), endRemoval()]);
    await startB();
    for (const [index, change] of different.entries()) {
      const { answer } = await caller.replyFor(replies[index] ?? '');
      t.like(answer, { status: 'error', response_body: { code: 'outcome_unknown' } }, change.action);
      t.is(rest.ordersFor(change).length, ordered[index] ?? 0, change.action);
      t.is(rest.eventsOf(change), '', change.action);
    }
  });
}
