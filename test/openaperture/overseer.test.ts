import test, { type ExecutionContext } from 'ava';
import fc from 'fast-check';
import { ErlangCodec } from '../../src/rpc/codec/erlang.js';
import type { PublishOutcome } from '../../src/rpc/publish-channel.js';
import { Installation } from '../../src/openaperture/installation.js';
import { heartbeatTerm, type Work } from '../../src/openaperture/heartbeat.js';
import { Overseer } from '../../src/openaperture/overseer.js';
import { ErlangPeer, hasErlang } from '../rpc/codec/erlang-peer.js';
import { eventually } from '../support/eventually.js';
import { noteSkipped } from '../support/note-skipped.js';
import { openManager } from './open-manager.js';

const MODULES = /^\/messaging\/exchanges\/7\/modules$/;
const peer = hasErlang()
  ? new ErlangPeer()
  : noteSkipped('heartbeats as Erlang reads them', 'escript on the PATH');
test.after.always(() => peer?.end());

type Publish = ConstructorParameters<typeof Overseer>[0]['publish'];

async function openOverseer(t: ExecutionContext, { publish }: { publish?: Publish } = {}) {
  const opened = await openManager(t);
  const { manager, client, clock, logs } = opened;
  manager.addExchange(7);
  const beats: { queue: string; body: Buffer; at: number }[] = [];
  const work: Work[] = [];
  const overseer = new Overseer({
    manager: client,
    exchangeId: 7,
    hostname: 'host-1',
    moduleType: 'fleet_manager',
    publish:
      publish ??
      (async (queue, body) => {
        beats.push({ queue, body, at: clock.now() });
      }),
    running: () => work,
    clock,
    log: logs.log,
  });
  /** Starts, and waits until it is registered. */
  const start = async () => {
    overseer.start();
    await eventually('it is registered', () => logs.find(/^Overseer registration completed$/).length === 1);
  };
  return { ...opened, overseer, beats, work, start };
}

/** Compares a heartbeat with a term in Erlang syntax. */
async function isTerm(t: ExecutionContext, body: Buffer | undefined, term: string): Promise<void> {
  t.truthy(body);
  if (peer !== undefined) t.is(await peer.compare(body ?? Buffer.alloc(0), term), 'same');
}

test('a module registers with its exchange', async (t) => {
  const { manager, start, overseer } = await openOverseer(t);
  await start();
  t.deepEqual(
    manager.callsTo(MODULES).map(({ method, body }) => [method, body]),
    [['POST', { hostname: 'host-1', type: 'fleet_manager', status: 'active', workload: [] }]],
  );
  await overseer.stop();
});

test('while the Manager is down for a minute, registration is retried in the background, and this is logged once', async (t) => {
  const { manager, overseer, logs, clock, until, beats } = await openOverseer(t);
  await manager.down();
  overseer.start();
  const begun = clock.now();
  await until('a minute has passed', () => clock.now() - begun > 60_000);
  t.is(logs.lines.length, 1);
  t.like(logs.lines[0], { level: 'warn', message: 'Overseer registration failed' });
  t.true(beats.length > 0, 'heartbeats do not wait for it');
  await manager.up();
  await until('it is registered', () => manager.modules.length === 1);
  await until(
    'the registration is logged',
    () => logs.find(/^Overseer registration completed$/).length === 1,
  );
  t.is(logs.find(/^Overseer registration restored$/).length, 1);
  await overseer.stop();
});

test('a missing exchange at registration is logged once with what to check, and registration succeeds when it exists', async (t) => {
  const { manager, overseer, logs, until } = await openOverseer(t);
  manager.removeExchange(7);
  overseer.start();
  await until('it has tried five times', () => manager.callsTo(MODULES).length >= 5);
  t.is(logs.lines.length, 1);
  t.regex(String(logs.lines[0]?.reason), /no exchange 7: check EXCHANGE_ID/);
  manager.addExchange(7);
  await until('it is registered', () => manager.modules.length === 1);
  await overseer.stop();
});

test('a heartbeat is sent every 30 seconds', async (t) => {
  const { start, overseer, beats, clock } = await openOverseer(t);
  const begun = clock.now();
  await start();
  t.is(beats.length, 0);
  for (let number = 1; number <= 4; number++) {
    clock.advance(29_999);
    t.is(beats.length, number - 1);
    clock.advance(1);
    await eventually('it beats', () => beats.length === number && clock.pending === 1);
  }
  t.deepEqual(
    beats.map(({ queue, at }) => [queue, at - begun]),
    [30_000, 60_000, 90_000, 120_000].map((at) => ['system_modules', at]),
  );
  await overseer.stop();
});

test('a heartbeat shows the running requests and their number, the oldest first, as a term that Erlang reads', async (t) => {
  const { start, overseer, beats, work, clock } = await openOverseer(t);
  await start();
  work.push(
    { id: 'é"\\\n', action: 'node_info', runningMs: 999 },
    { id: '42', action: 'restart_unit', cluster: 'ab12cd34ef', runningMs: 5_999 },
  );
  clock.advance(30_000);
  await eventually('it beats', () => beats.length === 1);
  await isTerm(
    t,
    beats[0]?.body,
    `#{event_type => status, status => active, hostname => <<"host-1">>, type => fleet_manager,
       workload => [
         #{description => <<"2 requests run">>},
         #{description => <<"request 42: restart_unit on ab12cd34ef for 5 s">>},
         #{description => <<"request ????: node_info for 0 s">>}]}`,
  );
  await overseer.stop();
});

test("any workload fits the Manager's column, and a busy module stays in its list", async (t) => {
  const { manager, client, notAborted } = await openOverseer(t);
  const anyWork = fc.record({
    id: fc.oneof(fc.string({ unit: 'grapheme', maxLength: 128 }), fc.nat().map(String)),
    action: fc.stringMatching(/^[a-z][a-z_]{0,63}$/),
    cluster: fc.option(fc.stringMatching(/^[0-9a-f]{10}$/), { nil: undefined }),
    runningMs: fc.nat({ max: 300_000 }),
  });
  await fc.assert(
    fc.asyncProperty(fc.array(anyWork, { minLength: 1, maxLength: 60 }), async (work) => {
      const beat = heartbeatTerm({ hostname: 'host-1', moduleType: 'fleet_manager', work });
      const { workload } = new ErlangCodec().decode(beat) as { workload: { description: string }[] };
      // As the Overseer forwards it.
      const registration = { hostname: 'host-1', type: 'fleet_manager', status: 'active', workload } as const;
      await client.registerModule(7, registration, { ...notAborted, tries: 1 } as never);
      t.deepEqual(manager.modules, [{ exchange: '7', ...registration }]);
      const [count, ...entries] = workload.map(({ description }) => description);
      t.is(count, work.length === 1 ? '1 request runs' : `${work.length} requests run`);
      t.true(entries.length >= Math.min(3, work.length), JSON.stringify(workload));
      for (const entry of entries) t.regex(entry, /^request [\x20-\x7e]{1,46}$/);
      const oldest = work.toSorted((a, b) => b.runningMs - a.runningMs);
      for (const [index, entry] of entries.entries()) {
        const id = oldest[index]?.id ?? '';
        if (/^\d{1,20}$/.test(id)) t.true(entry.startsWith(`request ${id}: `), entry);
      }
    }),
    { numRuns: 50 },
  );
});

test('a workload of 255 characters is sent whole, and one of 256 without the youngest request', (t) => {
  const work = (last: number): Work[] =>
    [17, 17, 17, last].map((length, index) => ({
      id: String(index),
      action: 'a'.repeat(length),
      runningMs: 4 - index,
    }));
  const sizeOf = (each: readonly Work[]) => {
    const beat = heartbeatTerm({ hostname: 'a', moduleType: 'a', work: each });
    const { workload } = new ErlangCodec().decode(beat) as { workload: object[] };
    return [workload.length, JSON.stringify(workload).length];
  };
  t.deepEqual(sizeOf(work(18)), [5, 255]);
  t.deepEqual(sizeOf(work(19)), [4, 199]);
});

test('the last heartbeat has an empty workload', async (t) => {
  const { start, overseer, beats, work, clock } = await openOverseer(t);
  await start();
  work.push({ id: '42', action: 'restart_unit', runningMs: 5_000 });
  await overseer.stop();
  t.is(beats.length, 1);
  await isTerm(
    t,
    beats[0]?.body,
    '#{event_type => status, status => active, hostname => <<"host-1">>, type => fleet_manager, workload => []}',
  );
  clock.advance(60_000);
  t.is(beats.length, 1);
  t.is(clock.pending, 0);
});

test('heartbeats go on after failures, which are logged once', async (t) => {
  let fails = true;
  let beats = 0;
  const { start, overseer, clock, logs, until } = await openOverseer(t, {
    publish: async () => {
      beats++;
      if (fails) throw new Error('the queue is gone');
    },
  });
  await start();
  const begun = clock.now();
  await until('five minutes have passed', () => clock.now() - begun > 5 * 60_000);
  t.true(beats >= 8);
  const reported = logs.find(/^Overseer heartbeat failed$/);
  t.is(reported.length, 1);
  t.like(reported[0], { level: 'warn', reason: 'the queue is gone' });
  fails = false;
  await until('it is over', () => logs.find(/^Overseer heartbeat restored$/).length === 1);
  await overseer.stop();
});

test('heartbeats that reach no queue are failures, logged once with what is missing', async (t) => {
  const { manager, clock, logs, until } = await openManager(t);
  manager.addExchange(7, { rootExchangeName: 'root', routingKey: 'root.seven' });
  manager.addBroker(3);
  const { url: managerUrl, oauthUrl, clientId, clientSecret } = manager;
  const installation = new Installation(
    {
      managerUrl,
      oauth: { url: oauthUrl, clientId, clientSecret },
      exchangeId: 7,
      brokerId: 3,
      moduleType: 'fleet_manager',
      maxRecordBytes: 7_500_000,
    },
    { hostname: 'host-1', clock, log: logs.log },
  );
  let outcome: PublishOutcome = 'unroutable';
  let beats = 0;
  installation.start({
    publish: async () => {
      beats++;
      return outcome;
    },
    onPreferred: () => true,
    running: () => [],
  });
  await until('three heartbeats were sent', () => beats === 3);
  const logged = () => logs.find(/^Overseer heartbeat failed$/);
  await until('it is logged', () => logged().length > 0);
  t.is(logged().length, 1);
  t.is(logged()[0]?.reason, 'no queue is bound to root with the routing key root.seven.system_modules');
  outcome = 'routed';
  await until('it is over', () => logs.find(/^Overseer heartbeat restored$/).length === 1);
  await installation.stop();
});

test('a heartbeat that the broker does not take is abandoned, and the next comes in time', async (t) => {
  const begun: number[] = [];
  const given: AbortSignal[] = [];
  const { start, overseer, clock, logs, until } = await openOverseer(t, {
    publish: async (_queue, _body, signal) => {
      begun.push(clock.now());
      given.push(signal);
      await new Promise(() => {});
    },
  });
  await start();
  await until('three heartbeats were tried', () => begun.length === 3);
  t.true(given[0]?.aborted);
  const [first = 0, second = 0] = begun;
  t.true(second - first >= 30_000 && second - first < 32_000);
  t.is(logs.find(/^Overseer heartbeat failed$/).length, 1);
  let stopped = false;
  const at = clock.now();
  void overseer.stop().then(() => (stopped = true));
  await until('it has stopped', () => stopped);
  t.is(begun.length, 4);
  t.true(clock.now() - at <= 2_000, 'the end of the service waits a second for the last one');
});

test('the Overseer client can be stopped before it is registered', async (t) => {
  const { manager, overseer, beats, clock } = await openOverseer(t);
  t.teardown(manager.hold(MODULES));
  overseer.start();
  await eventually('it registers', () => manager.callsTo(MODULES).length === 1);
  await overseer.stop();
  t.is(beats.length, 1);
  t.is(clock.pending, 0);
});

test('a type that is not an atom is refused', (t) => {
  t.throws(() => heartbeatTerm({ hostname: 'a', moduleType: 'x'.repeat(256), work: [] }), {
    instanceOf: RangeError,
  });
});
