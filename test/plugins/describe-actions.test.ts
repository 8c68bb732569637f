import test from 'ava';
import describeActions from '../../plugins/describe-actions/index.js';
import listUnits from '../../plugins/list-units/index.js';
import restartUnit from '../../plugins/restart-unit/index.js';
import { openAction } from './open-action.js';

const served = { actions: [listUnits, restartUnit] };

test('describes every action that is served, with its schemas', async (t) => {
  const { run, description } = await openAction(t, describeActions, served);
  const described = (await run()) as (typeof description)[];
  t.deepEqual(
    described.map(({ name, effect }) => [name, effect]),
    [
      ['describe_actions', 'read'],
      ['list_units', 'read'],
      ['restart_unit', 'change'],
    ],
  );
  t.deepEqual(described[0], description);
});

test('describes only those that match, and without schemas when it is brief', async (t) => {
  const { run } = await openAction(t, describeActions, served);
  t.deepEqual(await run({ name: 'restart*', brief: true }), [
    {
      name: 'restart_unit',
      summary: restartUnit.summary,
      target: 'cluster',
      effect: 'change',
      redelivery: 'refuse',
      timeout_ms: 300_000,
    },
  ]);
  t.deepEqual(await run({ name: 'none' }), []);
});
