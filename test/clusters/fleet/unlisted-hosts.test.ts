import test from 'ava';
import { unlistedHosts } from '../../../src/clusters/fleet/unlisted-hosts.js';

/** `name` alone: a name that cannot be resolved; `name=address`: one that can. */
const member = (text: string) => {
  const [host = '', address] = text.split('=');
  return { host, addresses: address === undefined ? undefined : [address] };
};
const machine = (primaryIP: string | null, index: number) => ({ id: `${index}`, primaryIP, metadata: {} });

for (const [what, hosts, machines, unlisted] of [
  ['all listed', ['a=10.0.0.1', 'b=10.0.0.2'], ['10.0.0.2', '10.0.0.1'], []],
  ['one of three listed', ['a=10.0.0.1', 'b=10.0.0.2', 'c=10.0.0.3'], ['10.0.0.2'], ['a', 'c']],
  [
    'a missing one among more machines than hosts',
    ['a=10.0.0.1', 'b=10.0.0.2'],
    ['10.0.0.1', '10.0.0.8', '10.0.0.9'],
    ['b'],
  ],
  ['IPv6 in other spellings', ['a=2001:DB8::1', 'b=::ffff:10.0.0.1'], ['2001:db8:0::1', '10.0.0.1'], []],
  [
    'other addresses in discovery than in fleet, as many',
    ['a=10.0.0.1', 'b=10.0.0.2'],
    ['1.2.3.4', '1.2.3.5'],
    [],
  ],
  [
    'other addresses in discovery than in fleet, fewer',
    ['a=10.0.0.1', 'b=10.0.0.2'],
    ['1.2.3.4'],
    ['a', 'b'],
  ],
  ['no machine', ['a=10.0.0.1'], [], ['a']],
  ['a machine without an address that may be it', ['a=10.0.0.1', 'b=10.0.0.2'], ['10.0.0.1', null], []],
  [
    'fewer machines without an address than missing',
    ['a=10.0.0.1', 'b=10.0.0.2', 'c=10.0.0.3'],
    ['10.0.0.1', null],
    ['b', 'c'],
  ],
  ['names that cannot be resolved, as many', ['a', 'b=10.0.0.2'], ['10.0.0.1', '10.0.0.2'], []],
  ['names that cannot be resolved, fewer', ['a', 'b=10.0.0.2'], ['10.0.0.2'], ['a']],
] satisfies [string, string[], (string | null)[], string[]][]) {
  test(`hosts that fleet does not list: ${what}`, (t) => {
    t.deepEqual(unlistedHosts(hosts.map(member), machines.map(machine)), unlisted);
  });
}
