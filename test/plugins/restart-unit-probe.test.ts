import test from 'ava';
import { inWords, RESTARTED } from './restart-outcome.js';
import { codeOf, UNIT, puts, world } from './restart-world.js';

test('a unit that a lost worker has stopped and not launched is launched, and stopped no second time', async (t) => {
  const { sandbox, probe, clock, warnings } = await world(t);
  const begin = clock.now();
  sandbox.cluster.setUnit(UNIT, { desiredState: 'loaded' });
  await clock.sleep(5_000);
  const text = String(await probe());
  t.regex(text, /^web\.service was started; it was not running before\.$/m);
  t.regex(text, /another worker may have begun this request/);
  t.is(warnings.length, 1);
  t.like(sandbox.cluster.unit(UNIT), { desiredState: 'launched', currentState: 'launched' });
  t.is(inWords(sandbox.cluster.history(UNIT).filter(({ at }) => at >= begin)), RESTARTED);
});

test('a unit that is still stopping is launched when it has stopped', async (t) => {
  const { sandbox, probe, clock } = await world(t);
  const begin = clock.now();
  sandbox.cluster.setUnit(UNIT, { desiredState: 'loaded' });
  t.regex(String(await probe()), /^web\.service was restarted/m);
  t.is(inWords(sandbox.cluster.history(UNIT).filter(({ at }) => at >= begin)), RESTARTED);
});

test('a unit that is set to be up is left alone: it is not known whether it was restarted', async (t) => {
  const { sandbox, probe } = await world(t);
  t.is(await probe(), undefined);
  t.is(puts(sandbox), 0);
});

test('a unit that somebody has made inactive, which no restart does, is left alone', async (t) => {
  const { sandbox, probe } = await world(t);
  sandbox.cluster.setUnit(UNIT, { desiredState: 'inactive' });
  t.is(await probe(), undefined);
  t.is(puts(sandbox), 0);
});

test('a unit that is no longer there is not restarted', async (t) => {
  const { sandbox, probe } = await world(t);
  sandbox.cluster.removeUnit(UNIT);
  t.is(await probe(), undefined);
  t.is(puts(sandbox), 0);
});

test('a cluster that cannot be asked is an error, and not a statement about the unit', async (t) => {
  const { sandbox, probe } = await world(t);
  sandbox.cluster.fail({ kind: 'refuse' });
  t.is(codeOf(await t.throwsAsync(async () => probe())), 'cluster_unreachable');
});
