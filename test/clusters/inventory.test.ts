import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import { Inventory } from '../../src/clusters/inventory.js';
import { keepingLog } from '../ssh/shell-for.js';
import { ManualClock } from '../support/manual-clock.js';
import { folder } from '../support/settings.js';

const LAB = 'lab: { kind: systemd, machines: [{ host: 10.0.0.1 }, { host: 10.0.0.2 }] }';

test('clusters are listed by name, without tokens, and anew when the file has changed', async (t) => {
  const path = join(await folder(t), 'clusters.yaml');
  const clock = new ManualClock();
  const log = keepingLog();
  const write = async (text: string) => writeFile(path, text);
  await write(`${LAB}\nprod: { etcd_token: secret-token }\n${'a'.repeat(32)}: [10.0.0.3]\n`);
  const inventory = new Inventory({ path, fleetPort: 1, clock, log });
  t.teardown(() => inventory.stop());
  inventory.start();
  t.deepEqual(inventory.list(), [
    { name: 'lab', kind: 'systemd', machines: 2 },
    { name: 'prod', kind: 'fleet', machines: null },
  ]);
  await write(`${LAB}\nbad: { kind: systemd }\n`);
  for (let looks = 0; looks < 2; looks++) clock.advance(5_000);
  t.deepEqual(inventory.list(), [{ name: 'lab', kind: 'systemd', machines: 2 }]);
  t.true(inventory.file.unusable.has('bad'));
  t.like(
    log.lines.find(({ message }) => message === 'cluster entry refused'),
    {
      level: 'warn',
      fields: { file: path, reason: 'line 2, column 6: it needs machines: a list of objects with host' },
    },
  );
  // A text that is no file of clusters changes nothing.
  await write('[]');
  inventory.reload();
  t.is(log.lines.at(-1)?.message, 'clusters refused');
  t.is(inventory.list().length, 1);
});
