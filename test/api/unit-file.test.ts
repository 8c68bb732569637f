import test from 'ava';
import { unitFileHash, unitFileText } from '../../src/api/unit-file.js';

test("a unit file's hash is the one that fleet's own tests expect", (t) => {
  const options = [{ section: 'Service', name: 'ExecStart', value: '/bin/sleep 100' }];
  t.is(unitFileHash(options), '1c6fb6f3684bafb0c173d8b8b957ceff031180c1');
});

test('a unit file groups options by section, with an empty line between sections and a newline at the end', (t) => {
  t.is(
    unitFileText([
      { section: 'Unit', name: 'Description', value: 'hello' },
      { section: 'Service', name: 'Environment', value: '' },
      { section: 'Unit', name: 'After', value: 'docker.service' },
      { section: 'Service', name: 'ExecStart', value: '/bin/echo a=b' },
    ]),
    '[Unit]\nDescription=hello\nAfter=docker.service\n\n[Service]\nEnvironment=\nExecStart=/bin/echo a=b\n',
  );
  t.is(unitFileText([]), '');
});
