import test from 'ava';
import { unitFileHash } from '../../src/api/unit-file.js';
import { ActionError } from '../../src/plugin.js';
import { MACHINE_A, MACHINE_B, service } from '../support/open-sandbox.js';
import { restartSeeing, running } from './restart-seeing.js';

test('a unit that somebody launched just before, and that fleet still shows as stopped, is really stopped', async (t) => {
  // The launch from before shows after 5 s, and the order to stop after 7 s.
  const { code, text, launchedAtMs } = await restartSeeing(({ ms, launchedMs }) => {
    const isUp = launchedMs >= 0 || (ms >= 5_000 && ms < 7_000);
    return { active: isUp ? 'active' : 'inactive', unit: { currentState: isUp ? 'launched' : 'loaded' } };
  });
  t.is(code, 'done', text);
  t.regex(text, /was restarted\./);
  t.is(launchedAtMs, 7_000);
});

test('a row that says failed proves nothing while fleet shows that the order to stop was not carried out', async (t) => {
  const { code, text } = await restartSeeing(() => ({
    active: 'failed',
    unit: { currentState: 'launched' },
  }));
  t.is(code, 'outcome_unknown', text);
});

test('a row without a state proves nothing, and is reported as unknown', async (t) => {
  for (const none of ['', null]) {
    const { code, text } = await restartSeeing(({ desiredState }) => ({
      active: desiredState === 'launched' ? 'active' : none,
    }));
    t.is(code, 'outcome_unknown', text);
    t.true(text.includes(`loaded, ${none ?? 'unknown'}/any`), text);
  }
});

test('a row with the hash of another file proves neither a stop nor a start', async (t) => {
  const old = unitFileHash(service('/bin/old'));
  const stop = await restartSeeing(({ desiredState }) => ({ active: running(desiredState), hash: old }));
  t.is(stop.code, 'outcome_unknown', stop.text);
  t.regex(stop.text, /fleet showed nothing that proves it/);
  const start = await restartSeeing(({ desiredState, launchedMs }) => ({
    active: running(desiredState),
    ...(launchedMs >= 0 ? { hash: old } : {}),
  }));
  t.is(start.code, 'outcome_unknown', start.text);
  t.regex(start.text, /set to launched; its machine shows no state of it/);
});

for (const [what, row] of [
  ['a row that says stopped', { active: 'inactive' }],
  ['a running row of another file', { active: 'active', hash: unitFileHash(service('/bin/old')) }],
] as const)
  test(`a unit on no machine of which fleet shows only ${what} is launched without a stop`, async (t) => {
    const { code, text, orders } = await restartSeeing(({ launchedMs }) =>
      launchedMs < 0 ? { ...row, unit: { machineID: null, currentState: 'inactive' } } : { active: 'active' },
    );
    t.is(code, 'done', text);
    t.deepEqual(orders, ['launched']);
  });

test('the hash of a file that is not UTF-8 cannot be computed, and any hash is accepted', async (t) => {
  for (const options of [service('/bin/caf\uFFFD'), service('/bin/web', { Conflicts: 'caf\uFFFD' })]) {
    const { code, text } = await restartSeeing(
      ({ desiredState }) => ({ active: running(desiredState), hash: 'a'.repeat(40) }),
      { options },
    );
    t.is(code, 'done', text);
  }
});

test('a row that disappears after the start is not counted as a fall, nor as time in which the unit was up', async (t) => {
  const { code, text, warnings } = await restartSeeing(({ desiredState, launchedMs }) => ({
    active: launchedMs > 3_000 && launchedMs < 9_000 ? undefined : running(desiredState),
  }));
  t.is(code, 'done', text);
  t.regex(text, /started: .* \(after 1\d\.\d s\)$/m);
  t.deepEqual(warnings, []);
});

test('an order to stop that fleet carries out late is followed by another launch', async (t) => {
  let isLate = false;
  const { code, text, orders } = await restartSeeing(
    ({ desiredState, launchedMs }) => {
      if (launchedMs > 3_000 && !isLate)
        return { active: 'inactive', unit: { desiredState: 'loaded', currentState: 'loaded' } };
      return { active: running(desiredState) };
    },
    {
      order: (count) => {
        if (count === 1) throw new ActionError('outcome_unknown', 'the answer was lost');
        isLate = count === 3;
      },
    },
  );
  t.is(code, 'done', text);
  t.deepEqual(orders, ['loaded', 'launched', 'launched']);
});

test('a oneshot unit that runs for less than fleet takes to show it is done, and that is noted', async (t) => {
  const options = [...service('/bin/job'), { section: 'Service', name: 'Type', value: 'oneshot' }];
  const { code, text, warnings } = await restartSeeing(() => ({ active: 'inactive' }), { options });
  t.is(code, 'done', text);
  t.regex(text, /ended without a failure.*\n[^]*\(after 8\.\d s\)\nnote: {4}fleet did not show it running/);
  t.is(warnings.length, 1);
});

test('a oneshot unit whose failure fleet shows late is reported as failed', async (t) => {
  const options = [...service('/bin/job'), { section: 'Service', name: 'Type', value: 'oneshot' }];
  const { code } = await restartSeeing(
    ({ launchedMs }) => ({ active: launchedMs > 7_000 ? 'failed' : 'inactive' }),
    { options },
  );
  t.is(code, 'unit_failed');
});

test('time in which fleet could not be asked is no time in which the unit was up', async (t) => {
  const { code, text } = await restartSeeing(({ desiredState, launchedMs }) => ({
    active: running(desiredState),
    fails: launchedMs > 3_000 && launchedMs < 9_000,
  }));
  t.is(code, 'done', text);
  t.regex(text, /started: .* \(after 1\d\.\d s\)$/m);
  t.regex(text, /^note: {4}fleet could not be asked for [67]\.\d s$/m);
});

test('a machine that is not listed proves nothing while fleet still has the unit on it', async (t) => {
  const { code, text } = await restartSeeing(({ desiredState }) =>
    desiredState === 'loaded'
      ? { active: undefined, listed: [MACHINE_B] }
      : { active: running(desiredState) },
  );
  t.is(code, 'outcome_unknown', text);
  t.regex(text, /fleet showed nothing that proves it for machine a+;/);
});

test('a unit that fleet moved from a lost machine must stop on its new one as well', async (t) => {
  const { code, text, launchedAtMs } = await restartSeeing(({ ms, desiredState, launchedMs }) => {
    if (launchedMs < 0 && desiredState === 'launched') return { active: 'active' };
    const isUp = launchedMs >= 0 || ms < 8_000;
    const moved = { on: MACHINE_B, listed: [MACHINE_B] };
    const currentState = isUp ? 'launched' : 'loaded';
    return { ...moved, active: isUp ? 'active' : 'inactive', unit: { machineID: MACHINE_B, currentState } };
  });
  t.is(code, 'done', text);
  t.regex(text, /was started on machine b+\./);
  t.is(launchedAtMs, 8_000);
});

test('a unit that its first machine shows as stopped, while it is still up on its next one, has stopped on the first', async (t) => {
  const { code, text, launchedAtMs } = await restartSeeing(({ ms, desiredState, launchedMs }) => {
    if (launchedMs < 0 && desiredState === 'launched') return { active: 'active' };
    const isUp = launchedMs >= 0 || ms < 5_000;
    return {
      active: isUp ? 'active' : 'inactive',
      on: MACHINE_B,
      others: ms < 2_000 ? [{ machineID: MACHINE_A }] : [],
      unit: { machineID: MACHINE_B, currentState: isUp ? 'launched' : 'loaded' },
    };
  });
  t.is(code, 'done', text);
  t.regex(text, /^web\.service was restarted\.$/m);
  t.is(launchedAtMs, 5_000);
});

test('a unit that runs on on its new machine did not stop, although its first one shows no state of it', async (t) => {
  const { code, text } = await restartSeeing(({ desiredState, launchedMs }) =>
    launchedMs < 0 && desiredState === 'launched'
      ? { active: 'active' }
      : { active: 'active', on: MACHINE_B, unit: { machineID: MACHINE_B, currentState: 'launched' } },
  );
  t.is(code, 'unit_did_not_stop', text);
});

test('a unit that is on no machine, and that a machine shows running, is stopped there first', async (t) => {
  const { code, text, orders } = await restartSeeing(({ desiredState, launchedMs }) =>
    launchedMs < 0
      ? {
          active: running(desiredState),
          unit: { machineID: null, currentState: 'inactive' },
          listed: [MACHINE_B],
        }
      : { active: 'active' },
  );
  t.is(code, 'done', text);
  t.regex(text, /^web\.service was restarted\.$/m);
  t.deepEqual(orders, ['loaded', 'launched']);
});

test('a state that says stopped is a new one when none that says so was there before', async (t) => {
  for (const before of ['', undefined]) {
    const { launchedAtMs } = await restartSeeing(({ desiredState, launchedMs }) => {
      const isBefore = launchedMs < 0 && desiredState === 'launched';
      return isBefore
        ? { active: before, unit: { currentState: 'loaded' } }
        : { active: running(desiredState) };
    });
    t.is(launchedAtMs, 0);
  }
});

test('a unit that fleet never showed running is started, and is not said to have been restarted', async (t) => {
  const { code, text } = await restartSeeing(({ desiredState, launchedMs }) => ({
    active: desiredState === 'launched' ? (launchedMs >= 0 ? 'active' : undefined) : 'inactive',
  }));
  t.is(code, 'done', text);
  t.regex(text, /^web\.service was started; whether it was running before is not known\.$/m);
});

test('an operator who stops the unit in the moment in which it has stopped is not worked against', async (t) => {
  const { code, text, orders } = await restartSeeing(({ ms, desiredState }) => ({
    active: ms < 3_000 ? 'active' : running(desiredState),
    unit: { desiredState: ms < 3_000 ? desiredState : 'inactive' },
  }));
  t.is(code, 'unit_changed_meanwhile', text);
  t.deepEqual(orders, ['loaded']);
});

test('what a host showed before the restart counts only when it has the first order at once, whoever gets the later ones', async (t) => {
  const restartBy = async (first: number, second: number) =>
    restartSeeing(({ desiredState }) => ({ active: running(desiredState) }), {
      host: (state) => (state === 'loaded' ? first : second),
    });
  t.regex((await restartBy(0, 0)).text, /^web\.service was restarted\.$/m);
  t.regex((await restartBy(0, 1)).text, /^web\.service was restarted\.$/m);
  const late = await restartBy(1, 1);
  t.is(late.code, 'done', late.text);
  t.regex(late.text, /^web\.service was started; whether it was running before is not known\.$/m);
});

test('a unit that a host showed without a machine may have been running when another host gets the order to launch it', async (t) => {
  const restartBy = async (host: number) =>
    restartSeeing(
      ({ launchedMs }) =>
        launchedMs < 0
          ? {
              active: undefined,
              unit: { machineID: null, desiredState: 'inactive', currentState: 'inactive' },
            }
          : { active: 'active' },
      { host: () => host },
    );
  t.regex((await restartBy(0)).text, /^web\.service was started; it was not running before\.$/m);
  t.regex(
    (await restartBy(1)).text,
    /^web\.service was started; whether it was running before is not known\.$/m,
  );
});
