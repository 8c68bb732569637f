import test from 'ava';
import fc from 'fast-check';
import { FairQueue } from '../../src/core/fair-queue.js';

test('lanes take turns, and each keeps its order', (t) => {
  const queue = new FairQueue({ total: 1, perLane: 1 });
  const started: string[] = [];
  for (const name of ['a1', 'a2', 'a3', 'b1', 'b2', 'c1']) {
    queue.enter(name.slice(0, 1), { start: () => started.push(name) });
  }
  for (let n = 0; n < 5; n++) queue.leave(started.at(-1)?.slice(0, 1) ?? '');
  t.deepEqual(started, ['a1', 'b1', 'c1', 'a2', 'b2', 'a3']);
});

test('a full lane leaves room for the others', (t) => {
  const queue = new FairQueue({ total: 3, perLane: 2 });
  const started: string[] = [];
  for (let n = 0; n < 10; n++) queue.enter('busy', { start: () => started.push('busy') });
  queue.enter('quiet', { start: () => started.push('quiet') });
  t.deepEqual(started, ['busy', 'busy', 'quiet']);
  t.is(queue.held('busy'), 10);
});

test('what is withdrawn never starts, and what has started cannot be withdrawn', (t) => {
  const queue = new FairQueue({ total: 1, perLane: 1 });
  const first = { start: () => {} };
  const second = { start: () => t.fail() };
  queue.enter('a', first);
  queue.enter('a', second);
  t.true(queue.withdraw('a', second));
  t.false(queue.withdraw('a', second));
  t.false(queue.withdraw('a', first));
  queue.leave('a');
  t.is(queue.held('a'), 0);
  t.throws(() => queue.leave('a'));
});

test('whatever comes and goes, the bounds hold, order is kept, and nothing is forgotten', (t) => {
  const step = fc.oneof(
    fc.record({ kind: fc.constant('enter' as const), lane: fc.constantFrom('a', 'b', 'c', 'd') }),
    fc.record({ kind: fc.constant('leave' as const), pick: fc.nat() }),
    fc.record({ kind: fc.constant('withdraw' as const), pick: fc.nat() }),
  );
  const bounds = fc.record({
    total: fc.integer({ min: 1, max: 4 }),
    perLane: fc.integer({ min: 1, max: 3 }),
  });
  t.notThrows(() =>
    fc.assert(
      fc.property(bounds, fc.array(step, { maxLength: 80 }), ({ total, perLane }, steps) => {
        const queue = new FairQueue({ total, perLane });
        const waiting: { lane: string; n: number; start(): void }[] = [];
        const running: { lane: string; n: number }[] = [];
        let entered = 0;
        for (const each of steps) {
          if (each.kind === 'enter') {
            const item = {
              lane: each.lane,
              n: entered++,
              start: () => {
                const earlier = waiting.find(({ lane }) => lane === item.lane);
                if (earlier !== item) throw new Error('not in order');
                waiting.splice(waiting.indexOf(item), 1);
                running.push(item);
              },
            };
            waiting.push(item);
            queue.enter(each.lane, item);
          } else if (each.kind === 'leave' && running.length > 0) {
            const [ended] = running.splice(each.pick % running.length, 1);
            if (ended !== undefined) queue.leave(ended.lane);
          } else if (each.kind === 'withdraw' && waiting.length > 0) {
            const [gone] = waiting.splice(each.pick % waiting.length, 1);
            if (gone !== undefined && !queue.withdraw(gone.lane, gone)) throw new Error('was waiting');
          }
          const inLane = (lane: string) => running.filter((other) => other.lane === lane).length;
          if (running.length > total) throw new Error('too many in all');
          if (running.some(({ lane }) => inLane(lane) > perLane)) throw new Error('too many in a lane');
          const couldRun = waiting.some(({ lane }) => inLane(lane) < perLane);
          if (running.length < total && couldRun) throw new Error('something waits that could run');
        }
      }),
    ),
  );
});
