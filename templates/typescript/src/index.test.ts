import assert from 'node:assert/strict';
import test from 'node:test';
import { openAction } from 'fleet-manager/testing';
import action from './index.js';

test('counts the units that match', async (t) => {
  const { run, sandbox, stop } = await openAction(action);
  t.after(stop);
  sandbox.cluster.addUnits(261);
  assert.deepEqual(await run({ name: 'load-*' }), { units: 261 });
});

test('does not count the units that its setting ignores', async (t) => {
  const { run, sandbox, stop } = await openAction(action, { settings: { ignored: 'load-*' } });
  t.after(stop);
  const before = await run();
  sandbox.cluster.addUnits(3);
  assert.deepEqual(await run(), before);
});

test('says when there is no such unit, or when the cluster fails', async (t) => {
  const { run, sandbox, stop } = await openAction(action);
  t.after(stop);
  await assert.rejects(run({ name: 'missing.service' }), { code: 'unit_not_found' });
  sandbox.cluster.fail({ kind: '503' });
  await assert.rejects(run(), { code: 'cluster_unhealthy' });
});
