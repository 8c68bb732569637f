import test, { type ExecutionContext } from 'ava';
import type { ErrorBody } from '../../src/core/call.js';
import { CallEventBus } from '../../src/core/call-events.js';
import { SystemEvents } from '../../src/openaperture/system-events.js';
import { eventually } from '../support/eventually.js';
import { callOf } from '../support/open-runner.js';
import { openManager } from './open-manager.js';

const EVENTS = /^\/system_events$/;

async function openEvents(t: ExecutionContext, options: { maxInFlight?: number } = {}) {
  const opened = await openManager(t);
  const { client: manager, clock, logs } = opened;
  const events = new SystemEvents({
    manager,
    exchangeId: 7,
    hostname: 'host-1',
    clock,
    log: logs.log,
    ...options,
  });
  return { ...opened, events };
}

test('an unexpected failure becomes a system event', async (t) => {
  const { manager, events } = await openEvents(t);
  events.report({ action: 'unit_logs', message: 'Request has timed out during execution!' });
  await events.close();
  t.deepEqual(manager.callsTo(EVENTS)[0]?.body, {
    unique: true,
    type: 'unhandled_exception',
    severity: 'error',
    message: 'Request has timed out during execution!',
    data: {
      component: 'fleet_manager',
      exchange_id: 7,
      hostname: 'host-1',
      fleet_request_action: 'unit_logs',
    },
  });
});

test("the callers' errors that no action raised on purpose are reported, and no others", async (t) => {
  const { manager, events, logs, clock } = await openEvents(t);
  const bus = new CallEventBus(logs.log);
  events.watch(bus);
  const bodies: ErrorBody[] = [
    { errors: ['a defect'], code: 'internal' },
    { errors: ['too late'], code: 'timeout' },
    { errors: ['stopped'], code: 'outcome_unknown', details: { stopped_by: 'timeout' } },
    { errors: ['shut down'], code: 'outcome_unknown', details: { stopped_by: 'cancelled' } },
    { errors: ['delivered again'], code: 'outcome_unknown' },
    { errors: ['unknown'], code: 'unit_not_found' },
  ];
  for (const body of bodies) {
    // The Manager keeps one event for each action.
    const call = callOf({ action: body.errors[0] });
    bus.emit('answered', { call, reply: { status: 'error', body }, dropped: false, at: clock.now() });
  }
  await events.close();
  const reported = manager.events.map(({ message }) => String(message));
  t.deepEqual(
    reported.toSorted((a, b) => a.localeCompare(b)),
    ['a defect', 'stopped', 'too late'],
  );
});

test('an event that the Manager got within the last hour is not an error', async (t) => {
  const { manager, events, logs } = await openEvents(t);
  for (let times = 1; times <= 3; times++) {
    events.report({ action: 'unit_logs', message: 'it failed' });
    await eventually('it is sent', () => manager.callsTo(EVENTS).length === times);
  }
  await events.close();
  t.is(manager.events.length, 1);
  t.deepEqual(logs.lines, []);
});

test('the number of events in flight is limited; excess events are dropped, which is logged once', async (t) => {
  const { manager, events, logs } = await openEvents(t, { maxInFlight: 4 });
  const release = manager.hold(EVENTS);
  for (let number = 0; number < 20; number++) events.report({ action: `action_${number}`, message: 'x' });
  await eventually('they are in progress', () => manager.callsTo(EVENTS).length === 4);
  t.is(logs.lines.length, 1);
  t.like(logs.lines[0], { level: 'warn', message: 'system events failed' });
  release();
  await eventually('they are through', () => manager.events.length === 4);
  await eventually('this is logged', () => logs.find(/^system events restored$/).length === 1);
  t.is(logs.find(/^system events restored$/)[0]?.failures, 16);
  events.report({ action: 'after', message: 'x' });
  await eventually('there is room again', () => manager.events.length === 5);
  t.is(Math.max(...manager.callsTo(EVENTS).map(({ concurrent }) => concurrent)), 4);
});

test('ten are in progress when nothing else is said', async (t) => {
  const { manager, events } = await openEvents(t);
  const release = manager.hold(EVENTS);
  for (let number = 0; number < 30; number++) events.report({ action: `action_${number}`, message: 'x' });
  release();
  await events.close();
  t.is(manager.events.length, 10);
});

test('while the Manager is down nothing fails, and it is logged once', async (t) => {
  const { manager, events, logs, clock, until } = await openEvents(t);
  await manager.down();
  const begun = clock.now();
  await until('a minute has passed', () => {
    events.report({ action: 'unit_logs', message: 'it failed' });
    return clock.now() - begun > 60_000;
  });
  await until('it is logged', () => logs.lines.length > 0);
  t.is(logs.lines.length, 1);
  await manager.up();
  await until('an event arrives', () => {
    events.report({ action: 'unit_logs', message: 'it failed' });
    return manager.events.length === 1;
  });
  await until('this is logged', () => logs.find(/^system events restored$/).length === 1);
});

test('an event that may have arrived is not sent twice', async (t) => {
  const { manager, events, until, logs } = await openEvents(t);
  manager.fail({ path: EVENTS });
  events.report({ action: 'unit_logs', message: 'it failed' });
  await until('it is logged', () => logs.lines.length > 0);
  t.is(manager.callsTo(EVENTS).length, 1);
});

test('closing waits a second for reports in flight, then aborts them; nothing is sent afterwards', async (t) => {
  const { manager, events, clock, logs } = await openEvents(t);
  const release = manager.hold(EVENTS);
  events.report({ action: 'unit_logs', message: 'it failed' });
  await eventually('it is in progress', () => manager.callsTo(EVENTS).length === 1);
  const closed = events.close();
  clock.advance(1_000);
  await closed;
  events.report({ action: 'unit_logs', message: 'it failed' });
  release();
  t.is(manager.callsTo(EVENTS).length, 1);
  t.deepEqual(logs.lines, []);
  t.is(clock.pending, 0);
});
