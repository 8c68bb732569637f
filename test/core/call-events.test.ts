import test from 'ava';
import { held } from '../support/actions.js';
import { callOf, openRunner } from '../support/open-runner.js';

test('every change of a call emits an event, in order', async (t) => {
  const { action, finishRun } = held();
  const { runner, events } = openRunner([action], { concurrency: 1 });
  const seen: string[] = [];
  for (const type of ['received', 'admitted', 'began', 'settled', 'released'] as const)
    events.on(type, ({ call: { id } }) => seen.push(`${id} ${type}`));
  const first = runner.run(callOf({ id: 'a' }));
  const second = runner.run(callOf({ id: 'b' }));
  await runner.run(callOf({ id: 'c', action: 'none' }));
  const drained = runner.drain(60_000);
  finishRun();
  await Promise.all([first, second, drained]);
  t.deepEqual(seen, [
    'a received',
    'a admitted',
    'a began',
    'b received',
    'b admitted',
    'c received',
    'c settled',
    'b released',
    'a settled',
  ]);
});

test('a listener that throws is logged, and changes neither the call nor what others get', async (t) => {
  const { action, finishRun } = held();
  const { runner, events, logs } = openRunner([action]);
  const seen: string[] = [];
  for (const type of ['received', 'settled'] as const) {
    events.on(type, () => {
      throw new Error('a defect');
    });
    events.on(type, () => seen.push(type));
  }
  const run = runner.run(callOf());
  finishRun();
  t.is((await run).status, 'completed');
  t.deepEqual(seen, ['received', 'settled']);
  t.deepEqual(
    logs.find(/^event listener failed$/).map(({ level, event }) => [level, event]),
    [
      ['error', 'received'],
      ['error', 'settled'],
    ],
  );
});
