import test from 'ava';
import { callerTimeout } from '../../src/core/caller-timeout.js';

test("a caller's time limit is at least one millisecond, and counts as five minutes at most", (t) => {
  for (const sent of [undefined, null, 300_000, 300_001, 1e300, '300001', '999999999999999'])
    t.is(callerTimeout(sent), 300_000, String(sent));
  for (const [sent, ms] of [
    [1, 1],
    ['1', 1],
    [1.5, 1.5],
    [299_999, 299_999],
    ['0299999', 299_999],
  ] as const)
    t.is(callerTimeout(sent), ms, String(sent));
});

test('anything else is no time limit', (t) => {
  for (const sent of [0, 0.999, -1, NaN, Infinity, '', '0', '-1', '1.5', '1e3', ' 1', '1000000000000000'])
    t.is(callerTimeout(sent), undefined, JSON.stringify(sent));
  for (const sent of [true, 1n, {}, [1], Symbol('ms')]) t.is(callerTimeout(sent), undefined);
});
