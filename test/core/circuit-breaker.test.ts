import test from 'ava';
import { CircuitBreaker } from '../../src/core/circuit-breaker.js';
import { ManualClock } from '../support/manual-clock.js';

function open(): { breaker: CircuitBreaker; clock: ManualClock } {
  const clock = new ManualClock();
  return { breaker: new CircuitBreaker(clock, { threshold: 3, pauseMs: 5_000 }), clock };
}

test('a cluster that could not be reached three times in a row is not tried for a while', (t) => {
  const { breaker, clock } = open();
  for (const pause of [0, 0, 5_000]) {
    breaker.unreachable('a');
    t.is(breaker.pauseLeft('a'), pause);
  }
  t.is(breaker.pauseLeft('b'), 0);
  clock.advance(2_000);
  t.is(breaker.pauseLeft('a'), 3_000);
  clock.advance(3_000);
  t.is(breaker.pauseLeft('a'), 0);
});

test('a failure after the pause starts another pause, and a success resets the count', (t) => {
  const { breaker, clock } = open();
  for (let failed = 0; failed < 3; failed++) breaker.unreachable('a');
  clock.advance(5_000);
  breaker.unreachable('a');
  t.is(breaker.pauseLeft('a'), 5_000);
  breaker.reached('a');
  t.is(breaker.pauseLeft('a'), 0);
  breaker.unreachable('a');
  breaker.unreachable('a');
  t.is(breaker.pauseLeft('a'), 0);
});

test('the clusters that failed longest ago are forgotten when there are too many', (t) => {
  const { breaker } = open();
  for (let failed = 0; failed < 3; failed++) breaker.unreachable('first');
  for (let cluster = 0; cluster < 1_000; cluster++) breaker.unreachable(`c${cluster}`);
  t.is(breaker.pauseLeft('first'), 0);
});
