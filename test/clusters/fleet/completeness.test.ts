import test from 'ava';
import { Cluster } from '../../../src/api/cluster.js';
import { Completeness } from '../../../src/clusters/fleet/completeness.js';
import { logLines } from '../../support/log-lines.js';
import { ManualClock } from '../../support/manual-clock.js';

const MACHINE = { id: 'a', primaryIP: '10.0.0.1', metadata: {} };

function open(resolve: () => Promise<string[]> = async () => Promise.reject(new Error('no such name'))) {
  const clock = new ManualClock();
  const log = logLines();
  const completeness = new Completeness({ policy: { resolve }, clock, log: log.log });
  const check = (token: string, ...hosts: string[]) => {
    const endpoints = hosts.map((host) => new URL(`http://${host}:49153`));
    const named = { endpoints, ignored: [], moreIgnored: 0, fromDiscovery: true };
    return completeness.check(new Cluster(token), named, [MACHINE]);
  };
  return { clock, log, check };
}

test('addresses are compared as they are, also those that policy forbids', async (t) => {
  const { check } = open();
  t.deepEqual((await check('a', '10.0.0.1', '[2001:db8::1]'))?.unlisted, ['2001:db8::1']);
});

test('a name that cannot be resolved within a second is not compared', async (t) => {
  const { check, clock } = open(() => new Promise(() => {}));
  let isKnown = false;
  const checked = check('a', '10.0.0.1', 'node2.test').then((missing) => {
    isKnown = true;
    return missing;
  });
  const settle = async () => {
    for (let turns = 0; turns < 5; turns++) await new Promise(setImmediate);
  };
  clock.advance(999);
  await settle();
  t.false(isKnown);
  clock.advance(1);
  t.deepEqual((await checked)?.unlisted, ['node2.test']);
});

test('of a thousand incomplete clusters each is logged once, however many others were complete again', async (t) => {
  const { check, log } = open();
  const incomplete = (token: string) => check(token, '10.0.0.1', '10.0.0.2');
  await incomplete('first');
  for (let at = 0; at < 1_000; at++) {
    await incomplete(`token-${at}`);
    await check(`token-${at}`, '10.0.0.1');
  }
  for (let at = 0; at < 999; at++) await incomplete(`other-${at}`);
  log.lines.length = 0;
  await incomplete('first');
  t.deepEqual(log.lines, []);
  await incomplete('one more');
  await incomplete('first');
  t.is(log.lines.length, 2, 'the first one was forgotten');
});
