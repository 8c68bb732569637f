import test from 'ava';
import type { Delivery } from '../../src/rpc/consumer.js';
import {
  deadLetterProperties,
  isRequeued,
  readSuspect,
  requeuedProperties,
  suspectProperties,
  timeLeft,
} from '../../src/rpc/suspect.js';
import { ManualClock } from '../support/manual-clock.js';

test('a suspect says its deadline, how many workers were lost with it, and whether it must run alone', (t) => {
  const headers = { 'x-deadline': 0, 'x-lost-workers': 0, 'x-alone': true };
  t.deepEqual(readSuspect({ headers }), { deadline: 0, lostWorkers: 0, mustRunAlone: true });
  for (const other of [undefined, -1, 1.5, '7', NaN])
    t.deepEqual(
      readSuspect({ headers: { 'x-deadline': other, 'x-lost-workers': other, 'x-alone': other } }),
      {
        deadline: undefined,
        lostWorkers: 0,
        mustRunAlone: false,
      },
    );
  t.deepEqual(readSuspect({}), { deadline: undefined, lostWorkers: 0, mustRunAlone: false });
});

test('a message that the broker moved because it had expired last has no time left', (t) => {
  const deadline = (headers: object) => readSuspect({ headers: { ...headers } }).deadline;
  const [expired, other] = [{ reason: 'expired' }, { reason: 'delivery_limit' }];
  t.is(deadline({ 'x-death': [expired, other] }), 0);
  t.is(deadline({ 'x-death': [other, expired] }), undefined);
  t.is(deadline({ 'x-death': expired }), undefined);
  t.is(deadline({ 'x-death': [{}] }), undefined);
  t.is(deadline({ 'x-death': [expired], 'x-deadline': 7 }), 7);
});

const OPS = { name: 'ops', verifiedBy: 'broker', door: undefined } as const;
const HANDED_ON = { 'x-caller': 'ops', 'x-caller-verified-by': 'broker', 'x-door': '' };

function deliveryOf(properties: object, others: Partial<Delivery> = {}): Delivery {
  return { properties: { headers: {}, ...properties }, suspect: undefined, ...others } as Delivery;
}

test('a message that is published again names its sender, and the worker only for one who was verified', (t) => {
  const connection = { user: 'worker' } as Delivery['connection'];
  const verified = deliveryOf({}, { connection, sender: OPS });
  const requeued = requeuedProperties(verified);
  t.deepEqual(requeued, { userId: 'worker', headers: { 'x-requeued': true, ...HANDED_ON } });
  t.true(isRequeued({ headers: { ...requeued.headers } }));
  const unknown = deliveryOf({}, { connection, sender: { ...OPS, verifiedBy: undefined } });
  t.deepEqual(requeuedProperties(unknown), {
    headers: { 'x-requeued': true, ...HANDED_ON, 'x-caller-verified-by': '' },
  });
  const clock = new ManualClock();
  const moved = suspectProperties(
    deliveryOf({ headers: { 'timeout-ms': 1_000 } }, { connection, sender: verified.sender }),
    clock,
    { lostWorkers: 3, mustRunAlone: false },
  );
  const headers = {
    ...HANDED_ON,
    'x-deadline': clock.wallTime() + 1_000,
    'x-lost-workers': 3,
    'x-alone': false,
  };
  t.deepEqual(moved, { userId: 'worker', headers });
});

test('a dead-lettered message tells why, when, until when its caller waits, and who that is', (t) => {
  const connection = { user: 'worker' } as Delivery['connection'];
  const clock = new ManualClock();
  const dead = deliveryOf({ headers: { 'timeout-ms': 1_000 } }, { connection, sender: OPS });
  const now = clock.wallTime();
  t.deepEqual(deadLetterProperties(dead, clock, 'no envelope'), {
    userId: 'worker',
    headers: {
      ...HANDED_ON,
      'x-reason': 'no envelope',
      'x-dead-lettered-at': now,
      'x-ends-at': now + 1_000,
    },
  });
  t.true(deadLetterProperties(dead, clock, 'given up', true).headers?.['x-may-have-begun']);
});

test('a replayed message may be one of two, as a requeued one, and its time does not count from when it was sent', (t) => {
  const clock = new ManualClock();
  const properties = { timestamp: clock.wallTime() / 1_000 - 900, headers: { 'x-replayed': 1 } };
  t.true(isRequeued(properties));
  t.is(timeLeft(deliveryOf(properties), clock), 300_000);
});

test('a caller waits for its time limit or the expiration, less what has passed since the request was sent', (t) => {
  const clock = new ManualClock();
  const seconds = clock.wallTime() / 1_000;
  const left = (properties: object) => timeLeft(deliveryOf(properties), clock);
  const headers = { 'timeout-ms': 10_000 };
  for (const [properties, expected] of [
    [{}, 300_000],
    [{ headers }, 10_000],
    [{ headers, expiration: '4000' }, 4_000],
    [{ headers, expiration: '40000' }, 10_000],
    [{ headers, timestamp: seconds - 3 }, 7_000],
    [{ headers, timestamp: seconds - 3, expiration: '4000' }, 1_000],
    [{ headers, timestamp: seconds - 30 }, 0],
    [{ headers, timestamp: 0 }, 0],
    [{ headers, timestamp: seconds + 3 }, 10_000],
    [{ headers, timestamp: -1 }, 10_000],
    [{ headers, timestamp: String(seconds - 3) }, 10_000],
    [{ headers: { ...headers, 'x-requeued': true }, timestamp: seconds - 3 }, 10_000],
  ] as const)
    t.is(left(properties), expected, JSON.stringify(properties));
});

test('a caller of a suspect waits until its deadline, and never longer than its time limit', (t) => {
  const clock = new ManualClock();
  const headers = { 'timeout-ms': 10_000 };
  for (const [laterMs, expected] of [
    [4_000, 4_000],
    [40_000, 10_000],
    [0, 0],
    [-5, 0],
  ] as const) {
    const suspect = { deadline: clock.wallTime() + laterMs, lostWorkers: 0, mustRunAlone: false };
    t.is(timeLeft(deliveryOf({ headers, expiration: '1' }, { suspect }), clock), expected, String(laterMs));
  }
});
