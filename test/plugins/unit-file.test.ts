import test from 'ava';
import listUnitFiles from '../../plugins/list-unit-files/index.js';
import unitFile from '../../plugins/unit-file/index.js';
import type { UnitFileText } from '../../src/plugin.js';
import { openAction } from '../../src/testing.js';
import { MACHINE_A, service, TWO_MACHINES } from '../support/open-sandbox.js';

const CLUSTER = {
  machines: TWO_MACHINES,
  units: [
    { name: 'web.service', options: service('/bin/web', {}) },
    { name: 'db.service', options: service('/bin/db', {}) },
  ],
};

test('unit_file returns the text that fleet keeps of a unit, with its hash', async (t) => {
  const { run, stop } = await openAction(unitFile, CLUSTER);
  t.teardown(stop);
  const { files } = (await run({ unit_name: 'web.service' })) as { files: UnitFileText[] };
  const text = '[Service]\nExecStart=/bin/web\n';
  const hash = '91fedf94fc53008fc0aaced7445df2cbf4f33725';
  t.deepEqual(files, [
    { machine_id: null, host: null, path: null, text, drop_ins: [], hash, source: null, is_current: null },
  ]);
  await t.throwsAsync(run({ unit_name: 'no.service' }), { code: 'unit_not_found' });
});

test('list_unit_files lists the units of a fleet cluster, by a pattern', async (t) => {
  const { run, stop } = await openAction(listUnitFiles, CLUSTER);
  t.teardown(stop);
  const names = async (parameters: object) =>
    ((await run(parameters)) as { unit: string }[]).map(({ unit }) => unit).toSorted();
  t.deepEqual(await names({}), ['db.service', 'web.service']);
  t.deepEqual(await names({ name: 'w*' }), ['web.service']);
});

test('fleet keeps one file for all machines, so none can be named', async (t) => {
  const machine_ids = [MACHINE_A];
  for (const { run, stop, parameters } of [
    { ...(await openAction(unitFile, CLUSTER)), parameters: { unit_name: 'web.service', machine_ids } },
    { ...(await openAction(listUnitFiles, CLUSTER)), parameters: { machine_ids } },
  ]) {
    t.teardown(stop);
    await t.throwsAsync(run(parameters), { code: 'unsupported_by_cluster' });
  }
});
