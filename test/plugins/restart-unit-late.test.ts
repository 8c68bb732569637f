import test, { type ExecutionContext } from 'ava';
import { outcomeOf, inWords, RESTARTED } from './restart-outcome.js';
import { during, letTimePass, puts, UNIT, world } from './restart-world.js';

const THREE_HOSTS = ['127.0.0.1', '127.0.0.2', '127.0.0.3'];

/** A restart in which the host that gets the order to stop, or the order to launch, is frozen just before. */
async function restartWithFrozenHost(t: ExecutionContext, order: 'loaded' | 'launched', hosts = THREE_HOSTS) {
  const { sandbox, run, clock, warnings } = await world(t, {}, hosts);
  const { cluster } = sandbox;
  const restart = outcomeOf(run({ wait_seconds: 60 }), cluster, clock);
  const until = async (isTrue: () => boolean) => during(restart, isTrue);
  // The starting point is read with three requests, and what shows the stop with two.
  if (order === 'launched') await until(() => cluster.states()[0]?.systemdActiveState === 'inactive');
  const reads = order === 'loaded' ? 3 : cluster.requests.length + 2;
  await until(() => cluster.requests.length >= reads);
  const host = cluster.requests.at(-1)?.host ?? '';
  const goOn = cluster.fail({ kind: 'freeze', host });
  const end = letTimePass(t, clock);
  if (hosts.length > 1) {
    const sent = puts(sandbox) + 2;
    await until(() => puts(sandbox) >= sent);
    end();
  }
  return { restart, goOn, host, cluster, clock, warnings, sandbox };
}

test('a frozen host that may carry out the order to stop later is named in the result and in a warning', async (t) => {
  const { restart, goOn, host, cluster, clock, warnings } = await restartWithFrozenHost(t, 'loaded');
  const { code, text, happened, desiredState } = await restart;
  t.is(code, 'done', text);
  t.regex(text, /^web\.service was restarted\.$/m);
  t.is(inWords(happened), RESTARTED);
  t.is(desiredState, 'launched');
  const warning = warnings.find((each) => each.includes('has not answered the order to set it to loaded'));
  t.regex(
    warning ?? '',
    /may carry it out when it responds again: the unit then stops\. Check its desired state/,
  );
  t.true(warning?.startsWith(`${UNIT}: ${host}:`), warning);
  t.true(text.includes(`note:    ${host}:`), text);
  await goOn();
  await clock.sleep(10_000);
  t.like(cluster.unit(UNIT), { desiredState: 'loaded' }, 'what it warns of happens');
});

test('when a frozen host carries out the order to stop during the start, the unit is launched again, and that is told', async (t) => {
  const { restart, goOn, cluster, warnings, sandbox } = await restartWithFrozenHost(t, 'loaded');
  await during(restart, () => cluster.starts(UNIT) > 0);
  await goOn();
  const { code, text, happened, desiredState } = await restart;
  t.is(code, 'done', text);
  t.is(puts(sandbox), 4);
  t.true(inWords(happened).startsWith(RESTARTED));
  t.is(desiredState, 'launched');
  t.regex(
    text,
    /^note: {4}its desired state became loaded after it was launched, .* or somebody has stopped the unit$/m,
  );
  t.true(
    warnings.some((each) => each.includes('has not answered')),
    'it may have been somebody else',
  );
});

test('a frozen host that may launch the unit later, although somebody stops it, is named too', async (t) => {
  const { restart, goOn, host, cluster, clock, warnings } = await restartWithFrozenHost(t, 'launched');
  const { code, text } = await restart;
  t.is(code, 'done', text);
  const warning = warnings.find((each) => each.includes('has not answered the order to set it to launched'));
  t.true(warning?.startsWith(`${UNIT}: ${host}:`), warning);
  t.regex(warning ?? '', /if somebody has stopped the unit until then, it starts again/);
  cluster.setUnit(UNIT, { desiredState: 'loaded' });
  await clock.sleep(10_000);
  await goOn();
  t.like(cluster.unit(UNIT), { desiredState: 'launched' }, 'what it warns of happens');
});

test('an error names the frozen host too', async (t) => {
  const { restart, goOn, host, clock } = await restartWithFrozenHost(t, 'loaded', ['127.0.0.1']);
  // Longer than the order to stop is tried.
  const ended = clock.now() + 12_000;
  await during(restart, () => clock.now() >= ended);
  await goOn();
  const { code, text } = await restart;
  t.is(code, 'outcome_unknown', text);
  t.regex(text, /not known whether fleet stopped web\.service/);
  t.true(text.includes(`${host}:`) && text.includes('has not answered the order to set it to loaded'), text);
});

test('a lost answer to an order leaves a warning, although fleet shows the ordered state: somebody else may have set it', async (t) => {
  const { sandbox, run, clock, warnings } = await world(t);
  sandbox.cluster.fail({ kind: 'drop-answer', method: 'PUT', times: 1 });
  const { code, text } = await outcomeOf(run(), sandbox.cluster, clock);
  t.is(code, 'done', text);
  t.is(puts(sandbox), 2);
  t.true(warnings.some((each) => each.includes('has not answered the order to set it to loaded')));
});
