import test from 'ava';
import { AuditQueue } from '../../../src/access/audit/audit-queue.js';
import type { AuditSink, SinkLine, Written } from '../../../src/access/audit/audit-sink.js';
import { logLines } from '../../support/log-lines.js';
import { ManualClock } from '../../support/manual-clock.js';
import { settle, watched } from '../../support/open-runner.js';

/** A sink that does what the test says, and what it has kept. */
function sinkOf() {
  const kept: string[] = [];
  const world = {
    kept,
    /** Why it keeps nothing; undefined: it keeps everything. */
    problem: undefined as string | undefined,
    /** How many lines it keeps of a write with a problem. */
    part: 0,
    /** While it is set, writes do not end. */
    hangs: undefined as Promise<void> | undefined,
    closed: false,
    writes: 0,
  };
  const sink: AuditSink = {
    write: async (lines: readonly SinkLine[]): Promise<Written> => {
      world.writes++;
      await world.hangs;
      const { problem } = world;
      const taken = problem === undefined ? lines : lines.slice(0, world.part);
      kept.push(...taken.map(({ text }) => text));
      return { kept: taken.length, problem };
    },
    close: async () => void (world.closed = true),
  };
  return { sink, world };
}

function open() {
  const { sink, world } = sinkOf();
  const clock = new ManualClock();
  const logs = logLines();
  const gapLine = (lines: number) => line(`gap of ${lines}`);
  const queue = new AuditQueue({ sink, gapLine, clock, log: logs.log });
  return { queue, world, clock, logs };
}

const line = (text: string): SinkLine => ({ id: text, text });
const texts = (count: number, prefix = 'line') =>
  Array.from({ length: count }, (_, index) => `${prefix} ${index}`);

test('lines are kept in the order in which they came', async (t) => {
  const { queue, world, clock } = open();
  const all = texts(1_200);
  for (const text of all) queue.add(line(text));
  while (world.kept.length < all.length) {
    clock.leap();
    await settle();
  }
  t.deepEqual(world.kept, all);
});

test('lines for which nobody waits are written with others, or after 5 ms', async (t) => {
  const { queue, world, clock } = open();
  for (const text of ['a', 'b']) queue.add(line(text));
  await settle();
  t.deepEqual(world.kept, []);
  t.is(await queue.addAwaited(line('c')).outcome, undefined);
  t.deepEqual(world.kept, ['a', 'b', 'c']);
  await settle();
  queue.add(line('d'));
  clock.advance(4);
  queue.add(line('e'));
  await settle();
  t.is(world.writes, 1);
  clock.advance(1);
  await settle();
  t.deepEqual(world.kept, ['a', 'b', 'c', 'd', 'e']);
  t.is(world.writes, 2);
});

test('who waits for a line learns that it is kept, or why not', async (t) => {
  const { queue, world } = open();
  t.is(await queue.addAwaited(line('a')).outcome, undefined);
  world.problem = 'the disk is full';
  t.is(await queue.addAwaited(line('b')).outcome, 'the disk is full');
  t.deepEqual(world.kept, ['a']);
});

test('after an outage, which is logged once, all lines are kept once, in order', async (t) => {
  const { queue, world, clock, logs } = open();
  world.problem = 'away';
  for (const text of texts(10)) queue.add(line(text));
  for (let times = 0; times < 20; times++) {
    world.part = times % 3 === 0 ? 1 : 0;
    await settle();
    clock.leap();
  }
  t.deepEqual(
    logs.lines.map(({ message }) => message),
    ['audit lines wait'],
  );
  world.problem = undefined;
  while (world.kept.length < 10) {
    await settle();
    clock.leap();
  }
  t.deepEqual(world.kept, texts(10));
  t.deepEqual(
    logs.lines.map(({ message }) => message),
    ['audit lines wait', 'audit lines written again'],
  );
});

test('a line that is waited for is tried at once, also in the pause after a failure', async (t) => {
  const { queue, world } = open();
  world.problem = 'away';
  queue.add(line('a'));
  await settle();
  world.problem = undefined;
  t.is(await queue.addAwaited(line('b')).outcome, undefined);
  t.deepEqual(world.kept, ['a', 'b']);
});

test('nobody waits for a sink that hangs', async (t) => {
  const { queue, world, clock } = open();
  let goOn = () => {};
  world.hangs = new Promise((resolve) => (goOn = resolve));
  const first = watched(queue.addAwaited(line('a')).outcome);
  await settle();
  clock.advance(1_999);
  await settle();
  t.is(first(), undefined);
  clock.advance(1);
  await settle();
  t.regex(String(first()), /2000 ms/);
  t.regex(String(await queue.addAwaited(line('b')).outcome), /2000 ms/);
  goOn();
  while (world.kept.length < 2) {
    await settle();
    clock.leap();
  }
  t.deepEqual(world.kept, ['a', 'b']);
});

test('a line can be taken back until it is being written', async (t) => {
  const { queue, world, clock } = open();
  world.problem = 'away';
  const waiting = queue.addAwaited(line('a'));
  await waiting.outcome;
  t.true(waiting.withdraw());
  let goOn = () => {};
  world.hangs = new Promise((resolve) => (goOn = resolve));
  const written = queue.addAwaited(line('b'));
  await settle();
  t.false(written.withdraw());
  world.problem = undefined;
  goOn();
  while (world.kept.length < 1) {
    await settle();
    clock.leap();
  }
  t.deepEqual(world.kept, ['b']);
  t.false(written.withdraw());
});

test('what is too much is dropped, counted, and named in the audit itself', async (t) => {
  const { queue, world, clock, logs } = open();
  world.problem = 'away';
  const all = texts(10_100);
  for (const text of all) queue.add(line(text));
  t.is(await queue.addAwaited(line('one more')).outcome, 'too many lines wait to be written');
  world.problem = undefined;
  while (!world.kept.includes('gap of 101')) {
    await settle();
    clock.leap();
  }
  t.deepEqual(
    world.kept.filter((text) => !text.startsWith('gap')),
    all.slice(0, 10_000),
  );
  t.like(logs.find(/^audit lines dropped$/)[0], { lines: 101 });
});

test('large lines are dropped by their bytes', async (t) => {
  const { queue, world } = open();
  world.problem = 'away';
  for (let times = 0; times < 7; times++) queue.add(line('x'.repeat(1024 * 1024)));
  t.is(await queue.addAwaited(line('one more')).outcome, 'away');
  t.is(await queue.addAwaited(line('x'.repeat(1024 * 1024))).outcome, 'too many lines wait to be written');
});

test('denials and reads leave room for changes', async (t) => {
  const { queue, world, clock } = open();
  world.problem = 'away';
  for (const text of texts(20_000, 'denial')) queue.add(line(text), { isOfChange: false });
  const ends = texts(5_000, 'end');
  for (const text of ends) queue.add(line(text));
  world.problem = undefined;
  while (world.kept.length < 10_000) {
    await settle();
    clock.leap();
  }
  t.deepEqual(
    world.kept.filter((text) => text.startsWith('end')),
    ends,
  );
});

test('a close writes what waits, and closes the sink', async (t) => {
  const { queue, world, logs } = open();
  for (const text of texts(1_000)) queue.add(line(text));
  await queue.close(1_000);
  t.deepEqual(world.kept, texts(1_000));
  t.true(world.closed);
  t.deepEqual(logs.lines, []);
});

test('a close reports the lines that cannot be sent in time', async (t) => {
  const { queue, world, clock, logs } = open();
  world.problem = 'away';
  for (const text of texts(7)) queue.add(line(text));
  const closed = watched(queue.close(1_000).then(() => true));
  while (closed() === undefined) {
    await settle();
    clock.advance(50);
  }
  t.like(logs.find(/^audit lines unsent$/)[0], { level: 'error', lines: 7, reason: 'away' });
  t.true(world.closed);
});
