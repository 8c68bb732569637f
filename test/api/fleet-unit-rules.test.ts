import test from 'ava';
import {
  conflictInRequirements,
  ignoredRequirements,
  unknownRequirements,
} from '../../src/api/fleet-unit-rules.js';

const options = (...lines: string[]) =>
  lines.map((line) => {
    const at = line.indexOf('=');
    return { section: 'X-Fleet', name: line.slice(0, at), value: line.slice(at + 1) };
  });

// What fleet 1.0.0 takes and refuses (api/units.go, ValidateOptions).
for (const [lines, conflict] of [
  [[], undefined],
  [['Conflicts=a.service', 'Conflicts=b.service'], undefined],
  [['Conflicts=a.service', 'MachineOf=b.service'], undefined],
  [['Conflicts=b*e', 'MachineOf=a.service'], undefined],
  [['Replaces=a.service', 'MachineOf=b.service'], undefined],
  [['MachineID=4f8b02ce'], undefined],
  [['Global=true'], undefined],
  [['Global=true', 'Conflicts=a.service'], undefined],
  [['Global=true', 'MachineMetadata=role=web'], undefined],
  [['Global=no', 'MachineID=4f8b02ce'], undefined],
  [['MachineID=4f8b02ce', 'MachineMetadata=role=web'], undefined],
  [['Conflicts=', 'Replaces=a.service'], undefined],
  [
    ['Conflicts=a.service', 'MachineOf=a.service'],
    'MachineOf=a.service cannot be met together with Conflicts=a.service',
  ],
  [
    ['Conflicts=b.service a.service', 'MachineOf=a.service'],
    'MachineOf=a.service cannot be met together with Conflicts=a.service',
  ],
  [
    ['X-Conflicts=b*', 'X-ConditionMachineOf=b.service'],
    'MachineOf=b.service cannot be met together with Conflicts=b*',
  ],
  [
    ['Replaces=a.service', 'Replaces=b.service', 'MachineOf=b.service'],
    'MachineOf=b.service cannot be met together with Replaces=b.service',
  ],
  [['Replaces=a.service', 'Conflicts=b.service'], 'Conflicts cannot be used with Replaces'],
  [['MachineID=4f8b02ce', 'MachineOf=a.service'], 'MachineID cannot be used with MachineOf'],
  [['X-ConditionMachineBootID=4f8b02ce', 'Conflicts=a.service'], 'MachineID cannot be used with Conflicts'],
  [['MachineID=4f8b02ce', 'Replaces=a.service'], 'MachineID cannot be used with Replaces'],
  [['X-ConditionMachineID=4f8b02ce', 'Global=true'], 'MachineID cannot be used with Global'],
  [['Global=yes', 'MachineOf=a.service'], 'Global cannot be used with MachineOf'],
  [['Global=1', 'Replaces=a.service'], 'Global cannot be used with Replaces'],
] as const) {
  test(`fleet ${conflict === undefined ? 'creates' : 'does not create'} a unit with ${lines.join(', ') || 'nothing'}`, (t) => {
    t.is(conflictInRequirements(options(...lines)), conflict);
  });
}

test('what fleet does not know in the section X-Fleet is named, and other sections have options of their own', (t) => {
  const known = options('MachineID=a', 'Global=true', 'X-Conflicts=a', 'MachineMetadata=a=b', 'Replaces=a');
  t.deepEqual(unknownRequirements([...known, { section: 'Service', name: 'MachineId', value: 'a' }]), []);
  t.deepEqual(unknownRequirements([...known, ...options('MachineId=a', 'machineid=b', 'MachineId=c')]), [
    'MachineId',
    'machineid',
  ]);
});

test('values that fleet ignores are named', (t) => {
  const kept = options('Global=t', 'Global=no', 'MachineMetadata=role=web', 'MachineMetadata="a=b" "c=d"');
  t.deepEqual(ignoredRequirements(kept), []);
  t.deepEqual(
    ignoredRequirements(
      options('Global=maybe', 'MachineMetadata=nope', 'MachineMetadata="a=b" "c"', 'MachineMetadata=a='),
    ),
    ['Global=maybe', 'MachineMetadata=nope', 'MachineMetadata=c', 'MachineMetadata=a='],
  );
});
