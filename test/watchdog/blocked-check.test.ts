import test from 'ava';
import { BlockedCheck } from '../../src/watchdog/blocked-check.js';

/** Looks each second from second 1 on: `ticks` has the count at each look. @returns the seconds at which it is blocked */
function blockedAt(limitSeconds: number, ticks: readonly number[]): number[] {
  const check = new BlockedCheck({ limitMs: limitSeconds * 1_000, periodMs: 1_000 }, 0, 0);
  return ticks.flatMap((count, at) => (check.isBlocked(count, (at + 1) * 1_000) ? [at + 1] : []));
}

test('a thread that does not tick for the limit is blocked', (t) => {
  t.deepEqual(blockedAt(3, [1, 1, 1, 1]), [4]);
});

test('a thread is blocked from its start when it never ticks', (t) => {
  t.deepEqual(blockedAt(3, [0, 0, 0]), [3]);
});

test('a thread that ticks within the limit is not blocked, however rarely it ticks', (t) => {
  t.deepEqual(blockedAt(3, [0, 0, 1, 1, 1, 2, 2, 2, 3]), []);
});

test('a count that overflows is a tick', (t) => {
  const check = new BlockedCheck({ limitMs: 2_000, periodMs: 1_000 }, 2 ** 31 - 1, 0);
  t.false(check.isBlocked(2 ** 31 - 1, 1_000));
  t.false(check.isBlocked(-(2 ** 31), 2_000));
});

test('after a late look the limit counts anew, as the whole process was stopped', (t) => {
  const check = new BlockedCheck({ limitMs: 10_000, periodMs: 1_000 }, 0, 0);
  t.false(check.isBlocked(0, 1_000));
  t.false(check.isBlocked(0, 60_000));
  for (let second = 61; second < 70; second++) t.false(check.isBlocked(0, second * 1_000), `${second}`);
  t.true(check.isBlocked(0, 70_000));
});

test('a look may have a limit of its own', (t) => {
  const check = new BlockedCheck({ limitMs: 3_000, periodMs: 2_000 }, 0, 0);
  t.false(check.isBlocked(0, 4_000, 10_000));
  t.false(check.isBlocked(0, 8_000, 10_000));
  t.true(check.isBlocked(0, 10_000, 10_000));
  t.true(check.isBlocked(0, 10_001));
});

test('a look that is a little late counts', (t) => {
  const check = new BlockedCheck({ limitMs: 4_000, periodMs: 1_000 }, 0, 0);
  t.false(check.isBlocked(0, 3_000));
  t.true(check.isBlocked(0, 6_000));
});
