import test from 'ava';
import fc from 'fast-check';
import { FairQueue, NO_CLUSTER } from '../../src/core/fair-queue.js';
import { ManualClock } from '../support/manual-clock.js';

/** A queue whose lanes have had responses. */
function openQueue(limits: { total: number; perLane: number }): FairQueue {
  const queue = new FairQueue({ ...limits, clock: new ManualClock() });
  for (const lane of ['a', 'b', 'c', 'd', 'e', 'busy', 'quiet']) queue.responded(lane);
  return queue;
}

test('an item with a priority goes before others of its lane, and of no other lane', (t) => {
  const queue = openQueue({ total: 1, perLane: 1 });
  const started: string[] = [];
  const enter = (name: string, priority?: number) =>
    queue.enter(name.slice(0, 1), { start: () => started.push(name) }, priority);
  enter('a1');
  enter('a2');
  enter('b1');
  enter('b2');
  enter('a9', 9);
  enter('a3', 3);
  for (let n = 0; n < 5; n++) queue.leave(started.at(-1)?.slice(0, 1) ?? '');
  t.deepEqual(started, ['a1', 'b1', 'a9', 'b2', 'a3', 'a2']);
});

test('an item with a priority can be withdrawn, and counts', (t) => {
  const queue = openQueue({ total: 1, perLane: 1 });
  const urgent = { start: () => t.fail('it was withdrawn') };
  queue.enter('a', { start: () => {} });
  queue.enter('a', urgent, 5);
  t.is(queue.count('a'), 2);
  t.true(queue.withdraw('a', urgent));
  t.is(queue.count('a'), 1);
  queue.leave('a');
  t.is(queue.count('a'), 0);
});

test('lanes take turns, and each keeps its order', (t) => {
  const queue = openQueue({ total: 1, perLane: 1 });
  const started: string[] = [];
  for (const name of ['a1', 'a2', 'a3', 'b1', 'b2', 'c1']) {
    queue.enter(name.slice(0, 1), { start: () => started.push(name) });
  }
  for (let n = 0; n < 5; n++) queue.leave(started.at(-1)?.slice(0, 1) ?? '');
  t.deepEqual(started, ['a1', 'b1', 'c1', 'a2', 'b2', 'a3']);
});

test('a full lane leaves room for the others', (t) => {
  const queue = openQueue({ total: 3, perLane: 2 });
  const started: string[] = [];
  for (let n = 0; n < 10; n++) queue.enter('busy', { start: () => started.push('busy') });
  queue.enter('quiet', { start: () => started.push('quiet') });
  t.deepEqual(started, ['busy', 'busy', 'quiet']);
  t.is(queue.count('busy'), 10);
});

test('items without a cluster have the full limit at once, and are never without a response', (t) => {
  const clock = new ManualClock();
  const queue = new FairQueue({ total: 20, perLane: 8, clock });
  let started = 0;
  for (let n = 0; n < 12; n++) queue.enter(NO_CLUSTER, { start: () => started++ });
  t.is(started, 8);
  clock.advance(5_000);
  t.false(queue.isUnresponsive(NO_CLUSTER));
  t.deepEqual(queue.withoutResponse, { lanes: 0, items: 0 });
});

test('while the queue is paused nothing starts, and then it goes on in turn', (t) => {
  const queue = openQueue({ total: 3, perLane: 2 });
  const started: string[] = [];
  const enter = (name: string) => queue.enter(name.slice(0, 1), { start: () => started.push(name) });
  enter('a1');
  queue.pause();
  for (const name of ['a2', 'a3', 'b1']) enter(name);
  queue.leave('a');
  t.deepEqual(started, ['a1']);
  queue.resume();
  t.deepEqual(started, ['a1', 'a2', 'b1', 'a3']);
});

test('as many items run as the limits allow, in total and per lane', (t) => {
  for (let total = 1; total <= 4; total++) {
    for (let perLane = 1; perLane <= 4; perLane++) {
      const queue = openQueue({ total, perLane });
      const running: string[] = [];
      const most = Math.min(total, perLane);
      const enter = (lane: string) => queue.enter(lane, { start: () => running.push(lane) });
      for (let n = 0; n < 6; n++) enter('a');
      t.is(running.length, most, 'one lane alone');
      for (const lane of ['b', 'c', 'd', 'e']) enter(lane);
      t.is(running.length, total <= perLane ? total : Math.min(total, perLane + 4), 'all lanes');
      // Each end makes room for exactly one more.
      queue.leave('a');
      t.is(running.length, total <= perLane ? total + 1 : Math.min(total + 1, perLane + 5), 'after an end');
    }
  }
});

test('a lane whose items were all withdrawn takes no turn, and its running items still end', (t) => {
  const queue = openQueue({ total: 2, perLane: 2 });
  const started: string[] = [];
  const item = (name: string) => ({ start: () => started.push(name) });
  const gone = item('a3');
  queue.enter('a', item('a1'));
  queue.enter('a', item('a2'));
  queue.enter('a', gone);
  queue.enter('b', item('b1'));
  t.is(queue.count('a'), 3);
  t.true(queue.withdraw('a', gone));
  t.is(queue.count('a'), 2);
  queue.leave('a');
  t.deepEqual(started, ['a1', 'a2', 'b1']);
  queue.leave('a');
  t.is(queue.count('a'), 0);
  t.throws(() => queue.leave('a'));
  t.false(queue.withdraw('never seen', gone));
});

test('a lane whose items were all withdrawn has lost its turn to those that waited then', (t) => {
  const queue = openQueue({ total: 2, perLane: 2 });
  const started: string[] = [];
  const item = (name: string) => ({ start: () => started.push(name) });
  const gone = item('a2');
  queue.enter('a', item('a1'));
  queue.enter('b', item('b1'));
  queue.enter('a', gone);
  queue.enter('c', item('c1'));
  queue.withdraw('a', gone);
  queue.enter('a', item('a3'));
  queue.leave('b');
  t.deepEqual(started, ['a1', 'b1', 'c1']);
});

test('a lane in which nothing runs cannot be left', (t) => {
  const queue = openQueue({ total: 1, perLane: 1 });
  let started = 0;
  for (const lane of ['a', 'b']) queue.enter(lane, { start: () => started++ });
  t.throws(() => queue.leave('b'), { message: /nothing runs/ });
  t.is(started, 1);
  queue.leave('a');
  t.is(started, 2);
});

test('withdrawing an item from the middle keeps the order of the others', (t) => {
  const queue = openQueue({ total: 1, perLane: 1 });
  const started: number[] = [];
  const items = [0, 1, 2, 3, 4].map((n) => ({ start: () => started.push(n) }));
  for (const each of items) queue.enter('a', each);
  for (const n of [1, 3]) queue.withdraw('a', items[n] ?? { start: () => t.fail() });
  for (let n = 0; n < 3; n++) queue.leave('a');
  t.deepEqual(started, [0, 2, 4]);
});

test('a withdrawn item never starts, and a started one cannot be withdrawn', (t) => {
  const queue = openQueue({ total: 1, perLane: 1 });
  const first = { start: () => {} };
  const second = { start: () => t.fail() };
  queue.enter('a', first);
  queue.enter('a', second);
  t.true(queue.withdraw('a', second));
  t.false(queue.withdraw('a', second));
  t.false(queue.withdraw('a', first));
  queue.leave('a');
  t.is(queue.count('a'), 0);
  t.throws(() => queue.leave('a'));
});

test('a lane that stops responding starts no more until as few run as in a new lane', (t) => {
  const clock = new ManualClock();
  const queue = new FairQueue({ total: 20, perLane: 8, clock });
  queue.responded('a');
  let started = 0;
  for (let n = 0; n < 12; n++) queue.enter('a', { start: () => started++ });
  t.is(started, 8);
  clock.advance(999);
  t.false(queue.isUnresponsive('a'));
  clock.advance(1);
  t.true(queue.isUnresponsive('a'));
  // Lanes are checked four times a second.
  clock.advance(250);
  // A new lane runs four.
  for (let running = 7; running >= 4; running--) queue.leave('a');
  t.is(started, 8);
  queue.leave('a');
  t.is(started, 9);
});

test('the first response of a lane starts no more than its limit', (t) => {
  const queue = new FairQueue({ total: 20, perLane: 3, clock: new ManualClock() });
  let started = 0;
  for (let n = 0; n < 6; n++) queue.enter('a', { start: () => started++ });
  t.is(started, 3);
  queue.responded('a');
  t.is(started, 3);
});

test('the first response of a lane starts what its limit then allows', (t) => {
  const queue = new FairQueue({ total: 20, perLane: 8, clock: new ManualClock() });
  let started = 0;
  for (let n = 0; n < 12; n++) queue.enter('a', { start: () => started++ });
  t.is(started, 4);
  queue.responded('a');
  t.is(started, 8);
});

test('a lane that responds again starts no more than its limit', (t) => {
  const clock = new ManualClock();
  const queue = new FairQueue({ total: 20, perLane: 8, clock });
  queue.responded('a');
  let started = 0;
  for (let n = 0; n < 12; n++) queue.enter('a', { start: () => started++ });
  clock.advance(1_250);
  queue.responded('a');
  t.is(started, 8);
});

test('a lane that stops responding while it waits for room starts no more', (t) => {
  const clock = new ManualClock();
  const queue = new FairQueue({ total: 6, perLane: 8, clock });
  queue.responded('a');
  let started = 0;
  for (let n = 0; n < 8; n++) queue.enter('a', { start: () => started++ });
  t.is(started, 5);
  clock.advance(1_250);
  t.is(started, 5);
});

test('a lane is not unresponsive while it responds, and counts what it starts and ends', (t) => {
  const clock = new ManualClock();
  const unresponsive: string[] = [];
  const onUnresponsive = (lane: string) => unresponsive.push(lane);
  const queue = new FairQueue({ total: 2, perLane: 2, clock, onUnresponsive });
  let started = 0;
  for (let n = 0; n < 2; n++) queue.enter('a', { start: () => {} });
  clock.advance(1_250);
  queue.responded('a');
  clock.advance(750);
  queue.responded('a');
  clock.advance(750);
  t.false(queue.isUnresponsive('a'));
  t.deepEqual(unresponsive, ['a']);
  queue.enter('b', { start: () => started++ });
  t.is(started, 0);
  queue.leave('a');
  t.is(started, 1);
});

test('what starts or goes on while others work in a lane gives it no further second to respond', (t) => {
  const clock = new ManualClock();
  const queue = new FairQueue({ total: 4, perLane: 4, clock });
  const enter = () => queue.enter('a', { start: () => {} });
  enter();
  enter();
  queue.leave('a');
  clock.advance(400);
  enter();
  t.is(queue.noResponseMs('a'), 400);
  queue.rejoin('a');
  t.is(queue.noResponseMs('a'), 400);
});

test('what ends in a lane that does not respond makes no room', (t) => {
  const clock = new ManualClock();
  const queue = new FairQueue({ total: 2, perLane: 2, clock });
  const started: string[] = [];
  for (const lane of ['b', 'c']) queue.responded(lane);
  for (let n = 0; n < 2; n++) queue.enter('a', { start: () => {} });
  clock.advance(1_250);
  queue.leave('a');
  for (const lane of ['b', 'b', 'c']) queue.enter(lane, { start: () => started.push(lane) });
  t.deepEqual(started, ['b', 'b']);
});

test('a lane that has become unresponsive makes room for others at once', (t) => {
  const clock = new ManualClock();
  const queue = new FairQueue({ total: 1, perLane: 1, clock });
  let started = 0;
  queue.enter('a', { start: () => {} });
  queue.enter('b', { start: () => started++ });
  clock.advance(750);
  clock.advance(250);
  t.is(started, 1);
});

test('lanes without a response are counted as long as items wait or run in them', (t) => {
  const clock = new ManualClock();
  const queue = new FairQueue({ total: 4, perLane: 2, clock });
  const item = { start: () => {} };
  for (let n = 0; n < 3; n++) queue.enter('new', { ...item });
  queue.responded('stopped');
  queue.enter('stopped', item);
  t.deepEqual(queue.withoutResponse, { lanes: 1, items: 3 });
  clock.advance(1_000);
  t.deepEqual(queue.withoutResponse, { lanes: 2, items: 4 });
  queue.leave('stopped');
  t.deepEqual(queue.withoutResponse, { lanes: 1, items: 3 });
  queue.pause();
  queue.enter('withdrawn', item);
  t.deepEqual(queue.withoutResponse, { lanes: 2, items: 4 });
  queue.withdraw('withdrawn', item);
  t.deepEqual(queue.withoutResponse, { lanes: 1, items: 3 });
});

test('lanes are checked only while items wait or run', (t) => {
  const clock = new ManualClock();
  const queue = new FairQueue({ total: 1, perLane: 1, clock });
  const item = { start: () => {} };
  queue.enter('a', item);
  t.is(clock.pending, 1);
  queue.leave('a');
  t.is(clock.pending, 0);
  queue.pause();
  queue.enter('a', item);
  t.is(clock.pending, 1);
  queue.withdraw('a', item);
  t.is(clock.pending, 0);
});

test('what a lane starts while it does not respond takes nothing of the total', (t) => {
  const clock = new ManualClock();
  const queue = new FairQueue({ total: 4, perLane: 4, clock });
  const started = { a: 0, b: 0 };
  for (const lane of ['a', 'b'] as const) queue.responded(lane);
  for (let n = 0; n < 8; n++) queue.enter('a', { start: () => started.a++ });
  clock.advance(1_250);
  for (let n = 0; n < 3; n++) queue.leave('a');
  t.is(started.a, 7);
  for (let n = 0; n < 4; n++) queue.enter('b', { start: () => started.b++ });
  t.is(started.b, 4);
});

test('a lane that responds again counts with what runs in it', (t) => {
  const clock = new ManualClock();
  const queue = new FairQueue({ total: 4, perLane: 4, clock });
  let started = 0;
  for (const lane of ['a', 'b']) queue.responded(lane);
  for (let n = 0; n < 3; n++) queue.enter('a', { start: () => {} });
  clock.advance(1_250);
  queue.responded('a');
  for (let n = 0; n < 4; n++) queue.enter('b', { start: () => started++ });
  t.is(started, 1);
});

test('a lane that did not respond counts again when it begins anew', (t) => {
  const clock = new ManualClock();
  const queue = new FairQueue({ total: 1, perLane: 1, clock });
  const started: string[] = [];
  for (const name of ['a1', 'a2']) queue.enter('a', { start: () => started.push(name) });
  clock.advance(1_250);
  queue.leave('a');
  queue.enter('b', { start: () => started.push('b1') });
  t.deepEqual(started, ['a1', 'a2']);
  queue.leave('a');
  t.deepEqual(started, ['a1', 'a2', 'b1']);
});

test('a fifth of the total is left to lanes in which fewer than four items run', (t) => {
  const queue = openQueue({ total: 20, perLane: 20 });
  const started = { a: 0, b: 0 };
  for (const lane of ['a', 'b'] as const)
    for (let n = 0; n < 30; n++) queue.enter(lane, { start: () => started[lane]++ });
  t.deepEqual(started, { a: 16, b: 4 });
  queue.leave('b');
  t.deepEqual(started, { a: 16, b: 5 });
});

test('a lane in which four items run takes nothing of that fifth', (t) => {
  const queue = openQueue({ total: 20, perLane: 20 });
  const started = { a: 0, b: 0 };
  const enter = (lane: 'a' | 'b', count: number) => {
    for (let n = 0; n < count; n++) queue.enter(lane, { start: () => started[lane]++ });
  };
  enter('a', 12);
  enter('b', 5);
  t.deepEqual(started, { a: 12, b: 4 });
});

test('lanes that have not responded yet use half of the total together', (t) => {
  const queue = openQueue({ total: 20, perLane: 20 });
  const started: Record<string, number> = { new1: 0, new2: 0, new3: 0, a: 0 };
  const enter = (lane: string) =>
    queue.enter(lane, { start: () => (started[lane] = (started[lane] ?? 0) + 1) });
  for (const lane of ['new1', 'new2', 'new3', 'a']) for (let n = 0; n < 6; n++) enter(lane);
  t.deepEqual(started, { new1: 4, new2: 4, new3: 2, a: 6 });
  // What runs in it is no longer of those.
  queue.responded('new1');
  t.deepEqual(started, { new1: 4, new2: 4, new3: 4, a: 6 });
});

test('that a lane has responded is remembered of a thousand lanes, and of each in which items run', (t) => {
  const queue = new FairQueue({ total: 1, perLane: 1, clock: new ManualClock() });
  queue.enter('busy', { start: () => {} });
  for (const lane of ['busy', 'first', 'second']) queue.responded(lane);
  for (let n = 0; n < 997; n++) queue.responded(`further${n}`);
  t.true(queue.hasResponded('first'));
  queue.responded('last');
  t.deepEqual(
    ['busy', 'first', 'second', 'last'].filter((lane) => queue.hasResponded(lane)),
    ['busy', 'second', 'last'],
  );
});

test('an item that has left and goes on takes a place again, also above the limits', (t) => {
  const queue = openQueue({ total: 1, perLane: 1 });
  const started: string[] = [];
  for (const lane of ['a', 'b', 'c']) queue.enter(lane, { start: () => started.push(lane) });
  queue.leave('a');
  queue.rejoin('a');
  t.is(queue.count('a'), 1);
  queue.leave('b');
  t.deepEqual(started, ['a', 'b']);
  queue.leave('a');
  t.deepEqual(started, ['a', 'b', 'c']);
});

test('an item that goes on in a lane takes the place of one that waits for room', (t) => {
  const queue = openQueue({ total: 2, perLane: 1 });
  const started: string[] = [];
  const enter = (name: string) => queue.enter(name.slice(0, 1), { start: () => started.push(name) });
  enter('a1');
  queue.leave('a');
  for (const name of ['b1', 'c1', 'a2']) enter(name);
  queue.rejoin('a');
  for (const lane of ['b', 'c']) queue.leave(lane);
  t.deepEqual(started, ['a1', 'b1', 'c1']);
  queue.leave('a');
  t.deepEqual(started, ['a1', 'b1', 'c1', 'a2']);
});

test('an item that goes on in a lane that does not respond takes nothing of the total', (t) => {
  const clock = new ManualClock();
  const queue = new FairQueue({ total: 2, perLane: 2, clock });
  let started = 0;
  for (const lane of ['a', 'b']) queue.responded(lane);
  for (let n = 0; n < 2; n++) queue.enter('a', { start: () => {} });
  clock.advance(1_250);
  queue.leave('a');
  queue.rejoin('a');
  for (let n = 0; n < 2; n++) queue.enter('b', { start: () => started++ });
  t.is(started, 2);
});

test('a lane in which an item goes on has a second to respond', (t) => {
  const clock = new ManualClock();
  const unresponsive: string[] = [];
  const onUnresponsive = (lane: string) => unresponsive.push(lane);
  const queue = new FairQueue({ total: 2, perLane: 2, clock, onUnresponsive });
  queue.enter('a', { start: () => {} });
  queue.leave('a');
  clock.advance(10_000);
  queue.rejoin('a');
  clock.advance(999);
  t.false(queue.isUnresponsive('a'));
  clock.advance(1);
  t.true(queue.isUnresponsive('a'));
  clock.advance(250);
  t.deepEqual(unresponsive, ['a']);
});

test('that a lane does not respond counts only while items work', (t) => {
  const clock = new ManualClock();
  const queue = new FairQueue({ total: 4, perLane: 4, clock });
  const enter = () => queue.enter('a', { start: () => {} });
  enter();
  queue.waits('a');
  clock.advance(5_000);
  t.is(queue.noResponseMs('a'), 0);
  queue.works('a');
  clock.advance(600);
  t.is(queue.noResponseMs('a'), 600, 'it works again');
  queue.waits('a');
  clock.advance(5_000);
  enter();
  clock.advance(600);
  t.is(queue.noResponseMs('a'), 600, 'another one works, the first one waits');
  queue.works('a');
  enter();
  clock.advance(400);
  t.is(queue.noResponseMs('a'), 1_000, 'more of them work');
  t.true(queue.isUnresponsive('a'));
});

/** Entering is the most frequent operation, and lanes are few: queues build up, and each run reaches every limit. */
const step = fc.oneof(
  {
    weight: 5,
    arbitrary: fc.record({ kind: fc.constant('enter' as const), lane: fc.constantFrom('a', 'b', 'c') }),
  },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('leave' as const), pick: fc.nat() }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('withdraw' as const), pick: fc.nat() }) },
);
const bounds = fc.record({
  total: fc.integer({ min: 1, max: 4 }),
  perLane: fc.integer({ min: 1, max: 3 }),
});

test('in any sequence of operations, limits and order are kept, lanes take turns, and no item is forgotten', (t) => {
  let metTotal = 0;
  let metLane = 0;
  const property = fc.property(
    bounds,
    fc.array(step, { minLength: 20, maxLength: 80 }),
    ({ total, perLane }, steps) => {
      const queue = openQueue({ total, perLane });
      interface Item {
        lane: string;
        n: number;
        /** How often its lane was ignored by another one since it became the first of its lane. */
        passed: Map<string, number>;
        start(): void;
      }
      const waiting: Item[] = [];
      const running: Item[] = [];
      const inLane = (lane: string) => running.filter((other) => other.lane === lane).length;
      const firstOf = (lane: string) => waiting.find((other) => other.lane === lane);
      let entered = 0;
      const itemOf = (lane: string): Item => {
        const item: Item = {
          lane,
          n: entered++,
          passed: new Map(),
          start: () => {
            if (firstOf(lane) !== item) throw new Error('not in order');
            for (const other of ['a', 'b', 'c']) {
              const first = firstOf(other);
              if (other === lane || first === undefined || inLane(other) >= perLane) continue;
              const times = (first.passed.get(lane) ?? 0) + 1;
              if (times > 1) throw new Error(`${lane} had two turns while ${other} waited for one`);
              first.passed.set(lane, times);
            }
            waiting.splice(waiting.indexOf(item), 1);
            running.push(item);
          },
        };
        return item;
      };
      for (const each of steps) {
        if (each.kind === 'enter') {
          const item = itemOf(each.lane);
          waiting.push(item);
          queue.enter(each.lane, item);
        } else if (each.kind === 'leave' && running.length > 0) {
          const [ended] = running.splice(each.pick % running.length, 1);
          if (ended !== undefined) queue.leave(ended.lane);
        } else if (each.kind === 'withdraw' && waiting.length > 0) {
          const [gone] = waiting.splice(each.pick % waiting.length, 1);
          if (gone !== undefined && !queue.withdraw(gone.lane, gone)) throw new Error('was waiting');
        }
        if (running.length > total) throw new Error('too many in all');
        if (running.some(({ lane }) => inLane(lane) > perLane)) throw new Error('too many in a lane');
        const couldRun = waiting.some(({ lane }) => inLane(lane) < perLane);
        if (running.length < total && couldRun) throw new Error('something waits that could run');
        for (const lane of ['a', 'b', 'c']) {
          const held = inLane(lane) + waiting.filter((other) => other.lane === lane).length;
          if (queue.count(lane) !== held) throw new Error('it does not know what it holds');
        }
        if (running.length === total && waiting.length > 0) metTotal++;
        if (running.length < total && waiting.length > 0) metLane++;
      }
    },
  );
  t.notThrows(() => fc.assert(property, { numRuns: 300 }));
  // Each limit was really reached, many times.
  t.true(metTotal > 300, `the bound in all was met ${metTotal} times`);
  t.true(metLane > 300, `the bound of a lane was met ${metLane} times`);
});
