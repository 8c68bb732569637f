import test from 'ava';
import { CircuitBreaker } from '../../src/core/circuit-breaker.js';
import { ManualClock } from '../support/manual-clock.js';

function open(): { breaker: CircuitBreaker; clock: ManualClock } {
  const clock = new ManualClock();
  return { breaker: new CircuitBreaker(clock), clock };
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

test('a single request tries the cluster after a pause; the others are refused until it has ended', (t) => {
  const { breaker, clock } = open();
  t.false(breaker.admitted('a'));
  for (let failed = 0; failed < 3; failed++) breaker.unreachable('a');
  clock.advance(5_000);
  t.is(breaker.pauseLeft('a'), 0);
  t.true(breaker.admitted('a'));
  t.is(breaker.pauseLeft('a'), 1_000);
  // It ended without having shown anything.
  breaker.probed('a');
  t.is(breaker.pauseLeft('a'), 0);
});

test('a request that tries the cluster keeps the others out until it has ended, also after the next pause', (t) => {
  const { breaker, clock } = open();
  for (let failed = 0; failed < 3; failed++) breaker.unreachable('a');
  clock.advance(5_000);
  breaker.admitted('a');
  breaker.unreachable('a');
  clock.advance(10_000);
  t.is(breaker.pauseLeft('a'), 1_000);
  breaker.probed('a');
  t.is(breaker.pauseLeft('a'), 0);
});

test('each failure after a pause doubles the next one up to a maximum, and a success resets it', (t) => {
  const { breaker, clock } = open();
  for (let failed = 0; failed < 2; failed++) t.false(breaker.unreachable('a'));
  for (const pause of [5_000, 10_000, 20_000, 30_000, 30_000]) {
    t.true(breaker.unreachable('a'));
    breaker.probed('a');
    t.is(breaker.pauseLeft('a'), pause);
    clock.advance(pause);
    t.is(breaker.pauseLeft('a'), 0);
    breaker.admitted('a');
  }
  breaker.reached('a');
  t.is(breaker.pauseLeft('a'), 0);
  t.false(breaker.unreachable('a'));
  t.false(breaker.unreachable('a'));
  t.is(breaker.pauseLeft('a'), 0);
});

test('requests that were sent before a pause do not lengthen it when they fail too', (t) => {
  const { breaker, clock } = open();
  for (let failed = 0; failed < 3; failed++) breaker.unreachable('a');
  clock.advance(1_000);
  for (let failed = 0; failed < 20; failed++) t.true(breaker.unreachable('a'));
  t.is(breaker.pauseLeft('a'), 4_000);
  clock.advance(3_999);
  t.true(breaker.unreachable('a'));
  t.is(breaker.pauseLeft('a'), 1);
});

test('the last of many failures begins a pause of half a minute', (t) => {
  const { breaker, clock } = open();
  for (let failed = 0; failed < 1_100; failed++) {
    breaker.unreachable('a');
    clock.advance(30_000);
  }
  breaker.unreachable('a');
  t.is(breaker.pauseLeft('a'), 30_000);
});

test('the system time does not matter for a pause', (t) => {
  const { breaker, clock } = open();
  for (let failed = 0; failed < 3; failed++) breaker.unreachable('a');
  clock.stepWallTime(-3_600_000);
  t.is(breaker.pauseLeft('a'), 5_000);
  clock.advance(5_000);
  t.is(breaker.pauseLeft('a'), 0);
});

test('the clusters that failed longest ago are forgotten when there are too many', (t) => {
  const { breaker } = open();
  for (let failed = 0; failed < 3; failed++) breaker.unreachable('first');
  for (let cluster = 0; cluster < 999; cluster++) breaker.unreachable(`c${cluster}`);
  t.is(breaker.pauseLeft('first'), 5_000);
  breaker.unreachable('last');
  t.is(breaker.pauseLeft('first'), 0);
});
