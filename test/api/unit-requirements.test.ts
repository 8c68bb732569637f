import test from 'ava';
import { isGlobalUnit, meetsRequirements, requirementsOf } from '../../src/plugin.js';

/** A unit with these lines in its section [X-Fleet]. */
const unit = (name: string, ...lines: string[]) => ({
  name,
  options: [
    { section: 'Service', name: 'MachineID', value: 'not of fleet' },
    ...lines.map((line) => {
      const at = line.indexOf('=');
      return { section: 'X-Fleet', name: line.slice(0, at), value: line.slice(at + 1) };
    }),
  ],
});

const ID = '4f8b02ce0123456789abcdef01234567';
const machine = (metadata: Record<string, string>) => ({ id: ID, metadata });

for (const [lines, global] of [
  [[], false],
  [['Global=true'], true],
  [['Global=Yes'], true],
  [['Global=1'], true],
  [['Global=false'], false],
  [['Global=true', 'Global=false'], false],
  [['Global=no', 'Global=on'], true],
] as const) {
  test(`a unit with ${lines.join(' and ') || 'nothing'} is ${global ? '' : 'not '}global`, (t) => {
    t.is(isGlobalUnit(unit('a.service', ...lines)), global);
  });
}

for (const [name, lines, metadata, meets] of [
  ['a.service', [], {}, true],
  ['a.service', ['MachineMetadata=role=web'], { role: 'web' }, true],
  ['a.service', ['MachineMetadata=role=web'], { role: 'data' }, false],
  ['a.service', ['MachineMetadata=role=web'], {}, false],
  ['a.service', ['MachineMetadata=role=web', 'MachineMetadata=role=data'], { role: 'data' }, true],
  ['a.service', ['MachineMetadata="role=web" "role=data"'], { role: 'data' }, true],
  ['a.service', ['MachineMetadata="role=web" "region=north"'], { role: 'web' }, false],
  ['a.service', ['MachineMetadata="role=web" "region=north"'], { role: 'web', region: 'north' }, true],
  ['a.service', ['X-ConditionMachineMetadata=role=web'], { role: 'data' }, false],
  ['a.service', ['MachineMetadata=role'], {}, true],
  ['a.service', ['MachineMetadata=a=b=c'], {}, true],
  ['a.service', ['MachineMetadata=constructor=x'], {}, false],
  ['web@2.service', ['MachineMetadata=slot=%i'], { slot: '2' }, true],
  ['web@2.service', ['MachineMetadata=slot=%i'], { slot: '1' }, false],
  ['web@2.service', ['MachineMetadata=app=%p'], { app: 'web' }, true],
  ['web@2.service', ['MachineMetadata=unit=%n'], { unit: 'web@2.service' }, true],
  ['web@2.service', ['MachineMetadata=unit=%N'], { unit: 'web@2' }, true],
  ['web.service', ['MachineMetadata=app=%p%i'], { app: 'web' }, true],
  ['a.service', [`MachineID=${ID}`], {}, true],
  ['a.service', ['MachineID=4f8b02ce'], {}, true],
  ['a.service', ['MachineID=4f8b'], {}, false],
  ['a.service', [`X-ConditionMachineID=${'0'.repeat(32)}`], {}, false],
  ['a.service', [`MachineID=${ID}`, `MachineID=${'0'.repeat(32)}`], {}, true],
  ['a.service', [`MachineID=${ID}`, 'MachineMetadata=role=web'], { role: 'data' }, false],
] as const) {
  test(`${name} with ${lines.join(' and ') || 'nothing'} ${meets ? 'runs' : 'does not run'} on ${JSON.stringify(metadata)}`, (t) => {
    t.is(meetsRequirements(machine(metadata), requirementsOf(unit(name, ...lines))), meets);
  });
}
