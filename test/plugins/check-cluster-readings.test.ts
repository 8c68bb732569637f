import test from 'ava';
import type { MachineReport } from '../../plugins/check-cluster/ask-machines.js';
import { clockFindings } from '../../plugins/check-cluster/clock-findings.js';
import { fileSystemsIn } from '../../plugins/check-cluster/file-systems.js';
import { clusterUnitsIn, shownUnitsIn } from '../../plugins/check-cluster/machine-units.js';

const BLOCKS = `Filesystem     1024-blocks    Used Available Capacity Mounted on
composefs             8720    8720         0     100% /
/dev/sda4         31457280 9437184  22020096      31% /var
/dev/sda4         31457280 9437184  22020096      31% /var
nas:/a share      31457280 9437184  22020096      31% /var/lib/docker
`;
const INODES = `Filesystem     Inodes IUsed IFree IUse% Mounted on
composefs           0     0     0     - /
/dev/sda4     1000000 30000 970000   3% /var
nas:/a share        -     -     -     - /var/lib/docker
`;
const MOUNTS = `composefs / overlay ro,relatime 0 0
/dev/sda4 /var xfs rw,relatime 0 0
nas:/a\\040share /var/lib/docker nfs4 rw 0 0
`;

test('each file system that can grow is read once, with its inodes when their number is fixed', (t) => {
  t.deepEqual(fileSystemsIn(BLOCKS, INODES, MOUNTS), [
    {
      mount: '/var',
      usedPercent: 31,
      sizeKb: 31_457_280,
      availableKb: 22_020_096,
      inodes: { usedPercent: 3, total: 1_000_000, free: 970_000 },
    },
    {
      mount: '/var/lib/docker',
      usedPercent: 31,
      sizeKb: 31_457_280,
      availableKb: 22_020_096,
      inodes: undefined,
    },
  ]);
  t.is(fileSystemsIn('df: command not found\n', '', ''), undefined);
});

test('units are read whatever their descriptions are, and nothing else is', (t) => {
  const units = clusterUnitsIn(
    'a@1.service  loaded    failed   failed  loaded active running\nsrv-x\\x2dy.mount not-found active mounted srv\nOops: no bus\n',
  );
  t.deepEqual(
    [...(units ?? [])].map(([name, { load, active, sub }]) => [name, load, active, sub]),
    [
      ['a@1.service', 'loaded', 'failed', 'failed'],
      ['srv-x\\x2dy.mount', 'not-found', 'active', 'mounted'],
    ],
  );
  t.is(clusterUnitsIn('Failed to list units: Connection timed out\n'), undefined);
});

test('a unit that is shown twice was looked at again', (t) => {
  const shown = shownUnitsIn(
    'NRestarts=3\nId=a.service\n\nNRestarts=0\nId=b.service\n\n\nNRestarts=5\nId=a.service\n',
  );
  t.deepEqual(
    shown.map(({ properties, restartsLater }) => [
      properties.get('Id'),
      properties.get('NRestarts'),
      restartsLater,
    ]),
    [
      ['a.service', '3', 5],
      ['b.service', '0', undefined],
    ],
  );
});

/** Machines whose clocks are so far ahead. */
const machines = (...offsets: readonly [ms: number, uncertaintyMs: number][]): MachineReport[] =>
  offsets.map(([offset_ms, uncertainty_ms], index) => ({
    id: null,
    host: `10.0.0.${index + 1}`,
    ownID: undefined,
    loaded: undefined,
    shown: [],
    fleetFiles: [],
    fileSystems: [],
    clock: { offset_ms, uncertainty_ms },
    problems: [],
  }));
const offOnes = (reports: readonly MachineReport[]) =>
  clockFindings(reports).map(({ subject, evidence }) => [subject, evidence.offset_ms]);

test('a clock that is off by more than a second is found, less what the measurement may be wrong', (t) => {
  t.deepEqual(offOnes(machines([900, 5], [-900, 5], [0, 5])), []);
  t.deepEqual(offOnes(machines([1_200, 5], [0, 5])), [['10.0.0.1', 1_200]]);
  t.deepEqual(offOnes(machines([1_200, 300], [0, 5])), []);
  t.deepEqual(offOnes(machines([-60_000, 5])), [['10.0.0.1', -60_000]]);
});

test('when most machines agree and this service does not, its own clock is found', (t) => {
  const [own, ...others] = clockFindings(machines([60_000, 5], [60_050, 5], [60_020, 5], [0, 5]));
  t.is(own?.subject, 'this service');
  t.regex(own?.message ?? '', /about 60\.0 s behind that of most machines$/);
  t.deepEqual(
    others.map(({ subject }) => subject),
    ['10.0.0.4'],
  );
});
