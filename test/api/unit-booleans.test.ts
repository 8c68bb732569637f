import test from 'ava';
import { isTrueForFleet, systemdBoolean } from '../../src/api/unit-booleans.js';

const read = (...values: string[]) =>
  systemdBoolean(
    values.map((value) => ({ section: 'Service', name: 'RemainAfterExit', value })),
    'Service',
    'RemainAfterExit',
  );

test('a boolean of a unit file is read as systemd reads it', (t) => {
  for (const value of ['1', 'yes', 'y', 'true', 't', 'on', 'YES', 'On', ' true ']) t.true(read(value), value);
  for (const value of ['0', 'no', 'n', 'false', 'f', 'off', 'OFF', '']) t.false(read(value), value);
  t.false(read());
});

test('the last valid value counts, and one that systemd ignores changes nothing', (t) => {
  t.true(read('no', 'yes'));
  t.false(read('yes', 'no'));
  t.true(read('yes', 'maybe', ''));
});

test('the same name in another section is another setting', (t) => {
  t.false(
    systemdBoolean(
      [{ section: 'Unit', name: 'RemainAfterExit', value: 'yes' }],
      'Service',
      'RemainAfterExit',
    ),
  );
});

test("fleet's own options do not know y", (t) => {
  for (const value of ['1', 'yes', 'true', 't', 'on', 'True']) t.true(isTrueForFleet(value), value);
  for (const value of ['y', 'no', '', ' true']) t.false(isTrueForFleet(value), value);
});
