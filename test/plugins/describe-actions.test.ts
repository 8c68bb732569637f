import test from 'ava';
import describeActions from '../../plugins/describe-actions/index.js';
import restartUnit from '../../plugins/restart-unit/index.js';
import { openAction } from './open-action.js';

test('describes every action that is served, with its schemas', async (t) => {
  const { run, description } = await openAction(t, describeActions);
  const described = (await run()) as (typeof description)[];
  const effects = new Map(described.map(({ name, effect }) => [name, effect]));
  t.deepEqual([...effects.keys()], [...effects.keys()].toSorted());
  t.is(effects.get('list_units'), 'read');
  t.is(effects.get('restart_unit'), 'change');
  t.deepEqual(
    described.find(({ name }) => name === description.name),
    description,
  );
});

test('describes only those that match, and without schemas when it is brief', async (t) => {
  const { run } = await openAction(t, describeActions);
  t.deepEqual(await run({ name: 'restart*', brief: true }), [
    {
      name: 'restart_unit',
      summary: restartUnit.summary,
      target: 'cluster',
      effect: 'change',
      redelivery: 'run-again',
      timeout_ms: 300_000,
    },
  ]);
  t.deepEqual(await run({ name: 'none' }), []);
});
