import test from 'ava';
import { systemClock } from '../../src/lib/clock.js';

test.serial('durations are not changed when the time of the system is set', (t) => {
  const real = Date.now;
  t.teardown(() => {
    Date.now = real;
  });
  for (const step of [3_600_000, -86_400_000]) {
    const [now, wall] = [systemClock.now(), real()];
    Date.now = () => real() + step;
    t.true(systemClock.now() >= now);
    t.true(systemClock.now() - now < 3_000_000);
    t.true(Math.abs(systemClock.wallTime() - wall - step) < 600_000);
  }
});

test('times are whole milliseconds', (t) => {
  t.true(Number.isInteger(systemClock.now()));
  t.true(Number.isInteger(systemClock.wallTime()));
});
