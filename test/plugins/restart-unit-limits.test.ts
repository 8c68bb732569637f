import test from 'ava';
import { ActionError } from '../../src/plugin.js';
import { service } from '../support/open-sandbox.js';
import { restartSeeing, running } from './restart-seeing.js';

/** A unit that runs on, whatever is ordered. */
const runsOn = () => ({ active: 'active', unit: { currentState: 'launched' } });
/** A unit that stops at once, and never gets further than its start. */
const hangsInStart = ({ desiredState }: { desiredState: string }) => ({
  active: desiredState === 'launched' ? 'activating' : 'inactive',
});
const JOB = [...service('/bin/job'), { section: 'Service', name: 'Type', value: 'oneshot' }];

/** Fleet cannot be asked in this part of the restart. */
const isAway = (ms: number, from: number, to: number) => ms >= from && ms < to;

const timesOf = (sent: { state: string; ms: number }[], state: string) =>
  sent.filter((each) => each.state === state).map(({ ms }) => ms);
const everyHalfSecond = (last: number) => Array.from({ length: last / 500 + 1 }, (_, index) => index * 500);

test('the stop is waited for as long as the caller says, and the unit is then launched', async (t) => {
  const { code, text, launchedAtMs } = await restartSeeing(runsOn, { wait: 10 });
  t.is(code, 'unit_did_not_stop');
  t.regex(
    text,
    /^web\.service did not stop within 10\.0 s as far as fleet shows; its desired state is launched again\. /,
  );
  t.is(launchedAtMs, 10_000);
});

test('when the request ends, the stop is waited for three more seconds, and not longer than before', async (t) => {
  const long = await restartSeeing(runsOn, { wait: 25, abortAt: 1_000 });
  t.regex(long.text, /did not stop within 4\.0 s/);
  t.is(long.launchedAtMs, 4_000);
  const short = await restartSeeing(runsOn, { wait: 2, abortAt: 1_000 });
  t.is(short.launchedAtMs, 2_000);
});

test('the start is waited for until the time is over, and for three seconds at least', async (t) => {
  const long = await restartSeeing(hangsInStart, { wait: 10 });
  t.is(long.code, 'unit_not_started');
  t.regex(
    long.text,
    /^web\.service was stopped, and set to launched, and is not shown as active after 10\.0 s\. /,
  );
  const late = await restartSeeing(
    ({ ms, desiredState }) => (ms < 4_500 ? { active: 'active' } : hangsInStart({ desiredState })),
    { wait: 5 },
  );
  t.is(late.launchedAtMs, 4_500);
  t.regex(late.text, /is not shown as active after 3\.0 s\. /);
});

const refusesLaunch = (state: string) => {
  if (state === 'launched') throw new ActionError('cluster_unhealthy', 'HTTP 503');
};
const stops = ({ desiredState }: { desiredState: string }) => ({ active: running(desiredState) });

test('launching is tried as long as one more call fits into the time, and for fifteen seconds at least', async (t) => {
  const long = await restartSeeing(stops, { refuse: refusesLaunch, wait: 25 });
  t.is(long.code, 'unit_stopped');
  t.regex(
    long.text,
    /^web\.service IS NOW STOPPED: fleet could not be asked to start it: HTTP 503; fleet could not be asked for 22\.0 s\. Last state: loaded, inactive/,
  );
  t.deepEqual(timesOf(long.sent, 'launched'), everyHalfSecond(22_000));
  const short = await restartSeeing(stops, { refuse: refusesLaunch, wait: 1 });
  t.deepEqual(timesOf(short.sent, 'launched'), everyHalfSecond(12_000));
});

test('when the request ends, launching is tried for 22 more seconds', async (t) => {
  const { sent } = await restartSeeing(stops, { refuse: refusesLaunch, wait: 240, abortAt: 1_000 });
  t.deepEqual(timesOf(sent, 'launched'), everyHalfSecond(20_000));
});

test('the order to stop is tried for seven seconds, and no more when the request ends', async (t) => {
  const refuse = (state: string) => {
    if (state === 'loaded') throw new ActionError('cluster_unhealthy', 'HTTP 503');
  };
  const { code, text, sent } = await restartSeeing(stops, { refuse });
  t.is(code, 'outcome_unknown');
  t.regex(
    text,
    /^It is not known whether fleet stopped web\.service \(HTTP 503\); its desired state is launched again; fleet could not be asked for 4\.0 s\. Last state/,
  );
  t.deepEqual(timesOf(sent, 'loaded'), everyHalfSecond(4_000));
  t.deepEqual(timesOf(sent, 'launched'), [4_000]);
  const ended = await restartSeeing(stops, { refuse, abortAt: 1_000 });
  t.deepEqual(timesOf(ended.sent, 'loaded'), everyHalfSecond(1_000));
});

test('a unit is up when it was active for seven seconds, or for two when the time is over', async (t) => {
  const inTime = await restartSeeing(stops);
  t.is(inTime.code, 'done', inTime.text);
  t.is(inTime.tookMs, 7_000);
  const late = await restartSeeing(
    ({ desiredState, launchedMs }) =>
      launchedMs < 2_000 ? hangsInStart({ desiredState }) : stops({ desiredState }),
    { wait: 1 },
  );
  t.is(late.code, 'done', late.text);
  t.is(late.tookMs, 4_000);
});

test('a failure counts at once, and after eight seconds when the unit had failed before', async (t) => {
  const fresh = await restartSeeing(({ desiredState, launchedMs }) => ({
    active: launchedMs >= 0 ? 'failed' : running(desiredState),
  }));
  t.is(fresh.code, 'unit_failed');
  t.regex(fresh.text, /^web\.service failed when it was started\. Last state: launched, failed\/any/);
  t.is(fresh.tookMs, 0);
  const again = await restartSeeing(() => ({ active: 'failed' }));
  t.is(again.code, 'unit_failed');
  t.is(again.tookMs, 8_000);
});

test('a unit that is shown as stopped from before counts as stopped when eight seconds have passed', async (t) => {
  // Somebody has launched it just before: fleet has not carried that out.
  const { code, text, launchedAtMs } = await restartSeeing(({ launchedMs }) => ({
    active: launchedMs >= 0 ? 'active' : 'inactive',
    unit: { currentState: launchedMs >= 0 ? 'launched' : 'loaded' },
  }));
  t.is(code, 'done', text);
  t.is(launchedAtMs, 8_000);
  t.regex(text, /^web\.service was started; it was not running before\.$/m);
  t.regex(text, / \(it was not running\)$/m);
});

test('a unit that is shown as stopped, and that nothing is about to launch, counts as stopped at once', async (t) => {
  for (const before of [
    { desiredState: 'loaded', currentState: 'loaded' },
    { desiredState: 'launched', currentState: 'launched' },
  ]) {
    const { launchedAtMs } = await restartSeeing(({ desiredState, launchedMs }) => ({
      active: launchedMs >= 0 ? 'active' : 'inactive',
      unit: launchedMs < 0 && desiredState === 'launched' ? before : {},
    }));
    t.is(launchedAtMs, 0);
  }
});

test('a oneshot unit is done when it ends after it was shown running, or after eight seconds', async (t) => {
  const seen = await restartSeeing(
    ({ launchedMs }) => ({ active: isAway(launchedMs, 0, 2_000) ? 'activating' : 'inactive' }),
    { options: JOB },
  );
  t.is(seen.code, 'done', seen.text);
  t.is(seen.tookMs, 2_000);
  t.deepEqual(seen.warnings, []);
  const unseen = await restartSeeing(() => ({ active: 'inactive' }), { options: JOB });
  t.is(unseen.tookMs, 8_000);
});

test('a oneshot unit was shown running only when fleet had launched it and systemd said so', async (t) => {
  for (const early of [
    { unit: { currentState: 'loaded' }, active: 'activating' },
    { unit: {}, active: null },
  ]) {
    const { code, tookMs } = await restartSeeing(
      ({ launchedMs }) => (isAway(launchedMs, 0, 2_000) ? early : { active: 'inactive' }),
      { options: JOB },
    );
    t.is(code, 'done');
    t.is(tookMs, 2_000 + 8_000, String(early.active));
  }
});

test('a unit is oneshot by its last type in its service section, whatever is around it', async (t) => {
  const oneshot = (value: string) => [
    { section: 'Service', name: 'Type', value: 'simple' },
    { section: 'Service', name: 'Type', value },
    ...service('/bin/job'),
    { section: 'X-Other', name: 'Type', value: 'simple' },
  ];
  const ends = ({ launchedMs }: { launchedMs: number }) => ({
    active: isAway(launchedMs, 0, 2_000) ? 'activating' : 'inactive',
  });
  const { code, text } = await restartSeeing(ends, { options: oneshot(' oneshot ') });
  t.is(code, 'done', text);
  t.regex(text, /^web\.service was started, and ended without a failure; it was not running before\.$/m);
  t.is((await restartSeeing(ends, { options: oneshot('forking'), wait: 5 })).code, 'unit_not_started');
});

test('only the time since fleet last showed that it has not launched a oneshot unit counts as time in which it was ended', async (t) => {
  const { code, text, tookMs } = await restartSeeing(
    ({ desiredState, launchedMs }) => ({
      active: 'inactive',
      unit: { currentState: isAway(launchedMs, 4_000, 6_000) ? 'loaded' : desiredState },
    }),
    { options: JOB },
  );
  t.is(code, 'done', text);
  t.is(tookMs, 6_000 + 8_000);
});

test('a stop that fleet does not show is unknown when fleet could not be asked for 1.5 s, unless it answers for 8 s since', async (t) => {
  const restartAway = async (from: number, to: number) =>
    restartSeeing(({ ms }) => ({ ...runsOn(), fails: isAway(ms, from, to) }), { wait: 10 });
  const short = await restartAway(4_000, 4_500);
  t.is(short.code, 'unit_did_not_stop', '1.0 s');
  t.regex(
    short.text,
    /did not stop within 9\.0 s as far as fleet shows; its desired state is launched again\. /,
  );
  const long = await restartAway(4_000, 5_000);
  t.is(long.code, 'outcome_unknown', '1.5 s');
  t.regex(
    long.text,
    /^It is not known whether web\.service stopped: fleet showed nothing that proves it for machine a{32}; its desired state is launched again; fleet could not be asked for 1\.5 s\. /,
  );
  const early = await restartAway(1_000, 2_000);
  t.is(early.code, 'unit_did_not_stop', 'it has answered for 8 s');
  t.regex(early.text, /did not stop within 8\.5 s .*; fleet could not be asked for 1\.5 s\. /);
  t.is((await restartAway(1_500, 2_500)).code, 'outcome_unknown', 'it has answered for 7.5 s');
});

test('a start that fleet does not show is unknown when fleet could not be asked for 1.5 s, unless it answers for 8 s since', async (t) => {
  const restartAway = async (from: number, to: number) =>
    restartSeeing(
      ({ launchedMs, desiredState }) => ({
        ...hangsInStart({ desiredState }),
        fails: isAway(launchedMs, from, to),
      }),
      { wait: 10 },
    );
  const short = await restartAway(4_000, 4_500);
  t.is(short.code, 'unit_not_started', '1.0 s');
  t.regex(short.text, /is not shown as active after 9\.0 s\. /);
  const long = await restartAway(4_000, 5_000);
  t.is(long.code, 'outcome_unknown', '1.5 s');
  t.regex(
    long.text,
    /^web\.service was stopped, and set to launched; it is not known whether it is up; fleet could not be asked for 1\.5 s\. /,
  );
  const early = await restartAway(1_000, 2_000);
  t.is(early.code, 'unit_not_started', 'it has answered for 8 s');
  t.regex(early.text, /is not shown as active after 8\.5 s; fleet could not be asked for 1\.5 s\. /);
  t.is((await restartAway(1_500, 2_500)).code, 'outcome_unknown', 'it has answered for 7.5 s');
  t.is((await restartAway(8_500, 60_000)).code, 'outcome_unknown', 'it does not answer any more');
});

test('fleet that takes two seconds to carry out an order has been asked', async (t) => {
  const { code, text, warnings } = await restartSeeing(stops, { takes: 2_000 });
  t.is(code, 'done', text);
  t.deepEqual(warnings, []);
});

test('time before the launch in which fleet could not be asked does not make the start unknown', async (t) => {
  const { code, text } = await restartSeeing(
    ({ ms, desiredState }) => ({
      ...(ms < 5_000 ? { active: 'active' } : hangsInStart({ desiredState })),
      fails: isAway(ms, 2_500, 4_000),
    }),
    { wait: 10 },
  );
  t.is(code, 'unit_not_started', text);
  t.regex(text, /is not shown as active after 5\.0 s; fleet could not be asked for 2\.0 s\. /);
});

test('fleet that refuses an order has been asked', async (t) => {
  let refusals = 0;
  const { code, text, warnings } = await restartSeeing(stops, {
    refuse: (state) => {
      if (state === 'launched' && ++refusals <= 6) throw new ActionError('cluster_refused', 'HTTP 409');
    },
  });
  t.is(code, 'done', text);
  t.deepEqual(warnings, []);
});

test('how long fleet could not be asked is told from 1.5 s on', async (t) => {
  const restartAway = async (to: number) =>
    restartSeeing(({ launchedMs, desiredState }) => ({
      ...stops({ desiredState }),
      fails: isAway(launchedMs, 1_000, to),
    }));
  t.notRegex((await restartAway(1_500)).text, /could not be asked/);
  t.regex((await restartAway(2_000)).text, /^note: {4}fleet could not be asked for 1\.5 s$/m);
});

test('how often a unit was up and did not stay so is told', async (t) => {
  const restartUp = async (isUp: (ms: number) => boolean, abortAt?: number) =>
    restartSeeing(
      ({ desiredState, launchedMs }) =>
        isUp(launchedMs) ? { active: 'active' } : hangsInStart({ desiredState }),
      { wait: 10, abortAt },
    );
  const once = await restartUp((ms) => isAway(ms, 1_000, 3_000));
  t.is(once.code, 'unit_flaps');
  t.regex(once.text, /^web\.service started once and did not stay up\. Last state: launched, activating/);
  t.regex((await restartUp((ms) => ms === 1_000)).text, / started once /, 'it was seen up one time');
  const twice = await restartUp((ms) => isAway(ms, 1_000, 3_000) || isAway(ms, 5_000, 6_000));
  t.regex(twice.text, / started 2 times and did not stay up\. /);
  const again = await restartUp((ms) => isAway(ms, 1_000, 3_000) || ms >= 5_000, 6_000);
  t.is(again.code, 'unit_flaps');
  t.regex(again.text, / started 2 times and did not stay up; the request ended: the deadline is over\. /);
});

test('a unit whose row is missing between its being up and being down has not stayed up', async (t) => {
  const { code, text } = await restartSeeing(
    ({ desiredState, launchedMs }) => {
      if (isAway(launchedMs, 1_000, 3_000)) return { active: 'active' };
      return isAway(launchedMs, 3_000, 4_000) ? { active: undefined } : hangsInStart({ desiredState });
    },
    { wait: 10 },
  );
  t.is(code, 'unit_flaps', text);
  t.regex(text, / started once /);
});

test('a unit that was up for too short a time when its request ends is not said to have been down', async (t) => {
  const { code, text } = await restartSeeing(stops, { abortAt: 1_500 });
  t.is(code, 'outcome_unknown');
  t.regex(
    text,
    /^web\.service was stopped, and set to launched; it is up, but was watched for 1\.5 s only, and fleet may show a failure later; the request ended: the deadline is over\. /,
  );
  const job = await restartSeeing(() => ({ active: 'inactive' }), { options: JOB, abortAt: 1_500 });
  t.is(job.code, 'outcome_unknown');
  t.regex(job.text, /; it has ended, or has not begun, but was watched for 1\.5 s only/);
});
