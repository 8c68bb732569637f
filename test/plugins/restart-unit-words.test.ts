import test from 'ava';
import { unitFileHash } from '../../src/api/unit-file.js';
import { ActionError } from '../../src/plugin.js';
import { MACHINE_A, MACHINE_B, service } from '../support/open-sandbox.js';
import { restartSeeing, running } from './restart-seeing.js';
import { UNIT } from './restart-world.js';

const MACHINE_C = 'c'.repeat(32);
const HASH = unitFileHash(service('/bin/web'));
const HOST = '10.0.0.1:7002';

/** A unit that stops and starts at once. */
const obeys = ({ desiredState }: { desiredState: string }) => ({
  active: running(desiredState),
  sub: desiredState === 'launched' ? 'running' : 'dead',
});

test('the result says in full what was seen before, at the stop and after the start, and for how long', async (t) => {
  const { text, warnings, orders } = await restartSeeing(({ ms, desiredState }) =>
    obeys({ desiredState: ms < 3_000 ? 'launched' : desiredState }),
  );
  t.is(
    text,
    [
      'web.service was restarted.',
      `before:  launched, active/running, hash ${HASH} on machine ${MACHINE_A}`,
      `stopped: loaded, inactive/dead, hash ${HASH} on machine ${MACHINE_A} (after 3.0 s)`,
      `started: launched, active/running, hash ${HASH} on machine ${MACHINE_A} (after 7.0 s)`,
      '',
    ].join('\n'),
  );
  t.deepEqual(warnings, []);
  t.deepEqual(orders, ['loaded', 'launched']);
});

test('what fleet does not tell of a state is called unknown, and rows of other machines are called old', async (t) => {
  const { code, text, details } = await restartSeeing(
    () => ({
      active: 'active',
      sub: null,
      unit: { currentState: null },
      others: [
        { machineID: MACHINE_B },
        { machineID: null, systemdActiveState: null, systemdSubState: 'failed' },
      ],
    }),
    { wait: 1 },
  );
  t.is(code, 'unit_did_not_stop');
  t.true(
    text.endsWith(
      `. Last state: unknown, active/unknown, hash ${HASH} on machine ${MACHINE_A}; an old state: inactive/dead on machine ${MACHINE_B}; an old state: unknown/failed on machine unknown`,
    ),
    text,
  );
  t.like(details, {
    unit: UNIT,
    state: { name: UNIT, machineID: MACHINE_A, hash: HASH, systemdActiveState: 'active' },
  });
});

/** A unit that fleet moves from one lost machine to the next, and that then stops on the third. */
const losesTwoMachines = ({
  ms,
  desiredState,
  launchedMs,
}: {
  ms: number;
  desiredState: string;
  launchedMs: number;
}) => {
  if (launchedMs < 0 && desiredState === 'launched') return { active: 'active' };
  if (ms < 2_000)
    return { active: undefined, unit: { machineID: MACHINE_B }, listed: [MACHINE_B, MACHINE_C] };
  const active = running(desiredState);
  return { active, on: MACHINE_C, unit: { machineID: MACHINE_C }, listed: [MACHINE_C] };
};

test('each machine that left the cluster is named', async (t) => {
  const { code, text } = await restartSeeing(losesTwoMachines);
  t.is(code, 'done', text);
  t.regex(text, /^web\.service was started on machine c{32}\.$/m);
  t.regex(text, /^note: {4}machine a{32}, b{32} left the cluster: the unit may still run there$/m);
  const failed = await restartSeeing((scene) => ({
    ...losesTwoMachines(scene),
    ...(scene.launchedMs >= 0 ? { active: 'activating' } : {}),
  }));
  t.is(failed.code, 'unit_not_started');
  t.regex(
    failed.text,
    /^web\.service lost its machine a{32}, b{32}, where it may still run, and set to launched, and is not shown/,
  );
});

test('of a unit whose machine left the cluster before it was shown running, nothing is said of the time before', async (t) => {
  const restartEnding = async (active: string) =>
    restartSeeing(({ desiredState, launchedMs }) => {
      if (launchedMs < 0 && desiredState === 'launched') return { active: undefined };
      const moved = { unit: { machineID: MACHINE_B }, on: MACHINE_B, listed: [MACHINE_B] };
      return { ...moved, active: launchedMs < 0 ? 'inactive' : active };
    });
  const { code, text } = await restartEnding('active');
  t.is(code, 'done', text);
  t.regex(text, /^web\.service was started on machine b{32}\.$/m);
  t.regex(text, /^stopped: .* \(it was not shown running\)$/m);
  t.regex(text, /^note: {4}machine a{32} left the cluster: the unit may still run there$/m);
  const failed = await restartEnding('activating');
  t.regex(failed.text, /^web\.service lost its machine a{32}, where it may still run, and set to launched/);
});

test('each machine without a proof of the stop is named', async (t) => {
  const { code, text } = await restartSeeing(({ ms, desiredState }) =>
    desiredState === 'launched' && ms === 0
      ? { active: 'active' }
      : { active: undefined, unit: { machineID: MACHINE_B } },
  );
  t.is(code, 'outcome_unknown', text);
  t.regex(text, /nothing that proves it for machine a{32}, b{32}; its desired state is launched again/);
});

test('a unit without a machine is reported with what its file requires, as it is written there', async (t) => {
  const waits = () => ({ active: undefined, unit: { machineID: null, currentState: 'inactive' } });
  const options = service('/bin/web', {
    MachineMetadata: 'role=web',
    Conflicts: 'db*.service',
    Global: 'false',
  });
  const { code, text, details } = await restartSeeing(waits, { options, wait: 1 });
  t.is(code, 'unit_not_scheduled');
  t.is(
    text,
    'web.service was not running before, and set to launched; fleet has found no machine for it yet; it requires MachineMetadata=role=web, Conflicts=db*.service. Last state: inactive, no state, on no machine',
  );
  t.deepEqual(details, { unit: UNIT, state: undefined });
  const one = await restartSeeing(waits, {
    options: service('/bin/web', { MachineMetadata: 'role=web' }),
    wait: 1,
  });
  t.regex(one.text, /; it requires MachineMetadata=role=web\. /);
  const none = await restartSeeing(waits, { wait: 1 });
  t.regex(none.text, /fleet has found no machine for it yet\. Last state/);
});

test('when it is not known whether fleet lists all machines, the lack of one is not blamed on the caller', async (t) => {
  let asked = 0;
  const { code, text } = await restartSeeing(
    () => ({ active: undefined, unit: { machineID: null, currentState: 'inactive' } }),
    {
      wait: 1,
      missing: () => {
        if (++asked > 1) throw new ActionError('discovery_unreachable', 'HTTP 502');
        return undefined;
      },
    },
  );
  t.is(code, 'unit_not_started');
  t.regex(
    text,
    /fleet has found no machine for it yet\. It is not known whether fleet lists all machines: HTTP 502\. Last state/,
  );
});

test('a unit that has stopped, and that fleet does not show when it cannot be launched, may be stopped', async (t) => {
  const refuse = (state: string) => {
    if (state === 'launched') throw new ActionError('cluster_unhealthy', 'HTTP 503');
  };
  const away = await restartSeeing(
    ({ ms, desiredState }) => ({ ...obeys({ desiredState }), fails: ms > 0 }),
    {
      refuse,
    },
  );
  t.is(away.code, 'outcome_unknown');
  t.regex(
    away.text,
    /^web\.service MAY NOW BE STOPPED: fleet did not confirm that it starts it again: HTTP 503; fleet could not be asked for 22\.0 s\. Last state: loaded, inactive/,
  );
  const starts = await restartSeeing(
    ({ ms, desiredState }) => (ms > 0 ? { active: 'activating' } : obeys({ desiredState })),
    { refuse },
  );
  t.is(starts.code, 'outcome_unknown', starts.text);
});

test('a unit of which fleet says that it is not there when it is launched is looked at', async (t) => {
  const refuse = (state: string, ms: number) => {
    if (state === 'launched' && ms < 1_000) throw new ActionError('unit_not_found', 'HTTP 404');
  };
  let refused = false;
  const gone = await restartSeeing(
    ({ desiredState, launchedMs }) => ({
      ...obeys({ desiredState }),
      gone: launchedMs < 0 && desiredState === 'loaded' && refused,
    }),
    {
      refuse: (state, ms) => {
        refused ||= state === 'launched';
        refuse(state, ms);
      },
    },
  );
  t.is(gone.code, 'unit_not_found');
  t.is(gone.text, 'web.service was removed from the cluster while it was being restarted');
  t.deepEqual(gone.orders, ['loaded', 'launched']);
  const there = await restartSeeing(obeys, { refuse });
  t.is(there.code, 'done', there.text);
  t.deepEqual(there.orders, ['loaded', 'launched', 'launched', 'launched']);
  t.deepEqual(there.warnings, [], 'it has answered all the time');
});

test('a launch whose answers are lost to the end is one when fleet shows it', async (t) => {
  const { code, text, find } = await restartSeeing(obeys, {
    order: (count) => {
      if (count > 1) throw new ActionError('outcome_unknown', 'the answer was lost');
    },
  });
  t.is(code, 'done', text);
  t.like(find(/^unit launched$/), [{ unit: UNIT, failures: 44, lasted_ms: 22_000 }]);
});

test('how long launching took is logged, and only when it failed at first', async (t) => {
  const restartFailing = async (times: number) => {
    let failures = 0;
    const { find } = await restartSeeing(obeys, {
      refuse: (state) => {
        if (state === 'launched' && failures++ < times)
          throw new ActionError('cluster_unhealthy', 'HTTP 503');
      },
    });
    return [...find(/^unit launch failed$/), ...find(/^unit launched$/)].map(
      ({ message, unit, reason, failures: count, lasted_ms }) =>
        [message, unit, reason ?? count, lasted_ms] as const,
    );
  };
  t.deepEqual(await restartFailing(0), []);
  const failed = ['unit launch failed', UNIT, 'HTTP 503', undefined] as const;
  t.deepEqual(await restartFailing(1), [failed, ['unit launched', UNIT, 1, 500]]);
  t.deepEqual(await restartFailing(3), [failed, ['unit launched', UNIT, 3, 1_500]]);
});

test('an order to stop that has certainly not been carried out is the error, and the unit is not touched again', async (t) => {
  for (const code of [
    'cluster_not_found',
    'cluster_empty',
    'cluster_unreachable',
    'discovery_unreachable',
    'forbidden',
    'invalid_parameters',
    'unit_not_found',
    // Refused, and fleet shows no trace of it.
    'cluster_refused',
    'cluster_answer_invalid',
  ]) {
    const outcome = await restartSeeing(obeys, {
      refuse: () => {
        throw new ActionError(code, 'not made');
      },
    });
    t.is(outcome.code, code);
    t.is(outcome.text, 'not made');
    t.deepEqual(outcome.orders, ['loaded'], code);
  }
});

test('a refused order to stop that one host shows as carried out is followed by a launch', async (t) => {
  for (const [first, second] of [
    ['launched', 'loaded'],
    ['loaded', 'launched'],
  ]) {
    const { orders } = await restartSeeing(
      ({ desiredState, launchedMs }) => ({
        ...obeys({ desiredState }),
        hosts: launchedMs < 0 ? [{ desiredState: first }, { desiredState: second }] : [{}],
      }),
      {
        refuse: (state, ms) => {
          if (state === 'loaded' && ms === 0) throw new ActionError('cluster_refused', 'HTTP 403');
        },
      },
    );
    t.is(orders.at(-1), 'launched');
  }
});

test('a refused order to stop of which no host shows the outcome is tried again', async (t) => {
  let refused = false;
  const { code, text, orders } = await restartSeeing(
    (scene) => ({
      ...obeys(scene),
      ...(scene.ms === 0 && scene.desiredState === 'launched' && refused ? { hosts: [] } : {}),
    }),
    {
      refuse: (_state, ms) => {
        refused = true;
        if (ms === 0) throw new ActionError('cluster_refused', 'HTTP 403');
      },
    },
  );
  t.is(code, 'done', text);
  t.deepEqual(orders, ['loaded', 'loaded', 'launched']);
});

test('an order to stop that is refused after one without an answer is tried again: the first may have been carried out', async (t) => {
  for (const code of ['cluster_refused', 'cluster_unreachable']) {
    let orders = 0;
    const outcome = await restartSeeing(obeys, {
      refuse: () => {
        orders++;
        if (orders === 1) throw new ActionError('outcome_unknown', 'the answer was lost');
        if (orders === 2) throw new ActionError(code, 'refused');
      },
    });
    t.is(outcome.code, 'done', outcome.text);
    t.deepEqual(outcome.orders, ['loaded', 'loaded', 'loaded', 'launched']);
  }
});

/** Fleet shows this desired state at these times after the order to stop. */
const showsAt =
  (times: readonly number[], state: string | null) =>
  ({ ms, desiredState }: { ms: number; desiredState: string }) => {
    const isStopping = desiredState === 'loaded';
    return {
      active: isStopping && ms >= 5_000 ? 'inactive' : 'active',
      unit: isStopping && times.includes(ms) ? { desiredState: state } : {},
    };
  };

test('the state from before an order, shown once, is that of a host that lags; shown twice in a row, somebody has set it', async (t) => {
  const once = await restartSeeing(showsAt([1_000, 2_000, 3_000], 'launched'));
  t.is(once.code, 'done', once.text);
  t.regex(once.text, /was restarted/);
  const twice = await restartSeeing(showsAt([1_000, 1_500], 'launched'));
  t.is(twice.code, 'unit_changed_meanwhile', twice.text);
  t.regex(
    twice.text,
    /^web\.service was told to stop, but then somebody else set its desired state to launched, and it was left so\. /,
  );
  t.deepEqual(twice.orders, ['loaded', 'launched'], 'to launch it once more changes nothing');
  const none = await restartSeeing(showsAt([1_000], null));
  t.regex(none.text, /somebody else set its desired state to unknown, and it was left so/);
  t.deepEqual(none.orders, ['loaded']);
});

test('a unit that a late order stops after its launch is launched again each time, a host that lags is no reason to, and that is noted once', async (t) => {
  const restartLoadedAt = async (times: readonly number[]) =>
    restartSeeing(
      ({ ms, desiredState }) => ({
        ...obeys({ desiredState }),
        unit: desiredState === 'launched' && times.includes(ms) ? { desiredState: 'loaded' } : {},
      }),
      {
        order: (count) => {
          if (count === 1) throw new ActionError('outcome_unknown', 'the answer was lost');
        },
      },
    );
  const once = await restartLoadedAt([2_000, 2_500, 3_000]);
  t.is(once.code, 'done', once.text);
  t.deepEqual(once.orders, ['loaded', 'launched', 'launched']);
  const twice = await restartLoadedAt([2_000, 2_500, 4_000, 4_500]);
  t.deepEqual(twice.orders, ['loaded', 'launched', 'launched', 'launched']);
  const notes = twice.warnings.filter((warning) => warning.includes('became loaded after it was launched'));
  t.is(notes.length, 1);
});

test('a unit that a late order stops after its launch, and that cannot be launched again, is said to be stopped', async (t) => {
  const { code, text } = await restartSeeing(
    ({ ms, desiredState }) =>
      ms < 2_000
        ? obeys({ desiredState })
        : { active: 'inactive', unit: { desiredState: 'loaded', currentState: 'loaded' } },
    {
      order: (count) => {
        if (count === 1) throw new ActionError('outcome_unknown', 'the answer was lost');
      },
      refuse: (state, ms) => {
        if (state === 'launched' && ms > 0) throw new ActionError('cluster_unhealthy', 'HTTP 503');
      },
    },
  );
  t.is(code, 'unit_stopped', text);
});

test('unit, rows and machines are read from one host, and the machines only while a row is missing', async (t) => {
  const whole = await restartSeeing(obeys);
  t.deepEqual([...new Set(whole.reads)].toSorted(), [
    'machines of undefined',
    `states of ${UNIT} from ${HOST}`,
  ]);
  t.is(whole.reads.filter((read) => read.startsWith('machines')).length, 1, 'at the begin');
  const lost = await restartSeeing(losesTwoMachines);
  t.true(lost.reads.includes(`machines of ${HOST}`));
});

test('a request that has ended before the unit is touched changes nothing', async (t) => {
  const { code, text, orders } = await restartSeeing(obeys, { abortAt: 0 });
  t.is(code, 'timeout');
  t.is(text, 'web.service was not changed: the deadline is over');
  t.deepEqual(orders, []);
});

test('what keeps every machine from running the unit is told in the message and in the details', async (t) => {
  const restartRequiring = async (fleet: Record<string, string>, missing?: string) =>
    restartSeeing(obeys, { options: service('/bin/web', fleet), missing: () => missing });
  const state = (fleet: Record<string, string>) =>
    `launched, active/running, hash ${unitFileHash(service('/bin/web', fleet))} on machine ${MACHINE_A}`;
  const elsewhere = { MachineID: MACHINE_C };
  const one = await restartRequiring(elsewhere);
  t.is(one.code, 'unit_not_schedulable');
  t.is(
    one.text,
    `web.service was not changed (${state(elsewhere)}), because it could not be started again: no machine that fleet lists meets MachineID=${MACHINE_C}`,
  );
  t.deepEqual(one.details, { requirements: [`MachineID=${MACHINE_C}`] });
  t.deepEqual(one.orders, []);
  const both = await restartRequiring({ MachineID: MACHINE_A, MachineMetadata: 'role=data' });
  t.deepEqual(both.details, { requirements: [`MachineID=${MACHINE_A}`, 'MachineMetadata=role=data'] });
  const incomplete = await restartRequiring(elsewhere, 'A machine is missing');
  t.is(incomplete.code, 'cluster_incomplete');
  t.true(incomplete.text.endsWith(`meets MachineID=${MACHINE_C}. A machine is missing`), incomplete.text);
});

test('whether machines are missing is asked only when fleet does not list that of the unit', async (t) => {
  const restartOn = async (listed: string[], missing?: string) => {
    let asked = 0;
    const outcome = await restartSeeing((scene) => ({ ...obeys(scene), listed }), {
      missing: () => {
        asked++;
        return missing;
      },
    });
    return { ...outcome, asked };
  };
  const known = await restartOn([MACHINE_A], 'A machine is missing');
  t.is(known.code, 'done', known.text);
  t.is(known.asked, 0);
  const complete = await restartOn([MACHINE_B]);
  t.is(complete.code, 'done', complete.text);
  t.is(complete.asked, 1);
  const incomplete = await restartOn([MACHINE_B], 'A machine is missing');
  t.is(incomplete.code, 'cluster_incomplete');
  t.true(
    incomplete.text.endsWith('because fleet does not list its machine. A machine is missing'),
    incomplete.text,
  );
  t.is(incomplete.details, undefined);
  const none = await restartOn([]);
  t.is(none.code, 'cluster_incomplete');
  t.true(none.text.endsWith('because it could not be started again: fleet lists no machine'), none.text);
});

test('two hosts that may carry out an order later are both named', async (t) => {
  let orders = 0;
  const { code, text } = await restartSeeing(obeys, {
    refuse: (state) => {
      orders++;
      if (state === 'launched' || orders > 2) return;
      throw new ActionError('outcome_unknown', 'no answer', {
        details: { mayChangeLater: [`10.0.0.${orders}:7002`] },
      });
    },
  });
  t.is(code, 'done', text);
  t.regex(
    text,
    /^note: {4}10\.0\.0\.1:7002, 10\.0\.0\.2:7002 has not answered the order to set it to loaded, and may carry it out when it responds again: the unit then stops\. Check its desired state then$/m,
  );
  t.notRegex(text, /set it to launched/);
});
