import test from 'ava';
import { REQUEST_SCRIPT, REQUEST_SECTIONS } from '../../src/clusters/systemd/request-script.js';
import { sectionsOf } from '../../src/api/sections.js';
import { VERB_WORK } from '../../src/clusters/systemd/verb-script.js';
import { SystemdCluster } from '../../src/sandbox/systemd/systemd-cluster.js';
import { ManualClock } from '../support/manual-clock.js';

const MACHINE = { id: 'a'.repeat(32), primaryIP: '127.0.0.11', metadata: {} };

/** A host with one unit, and what its request script prints when time passes as it waits. */
function openHost() {
  const clock = new ManualClock();
  const cluster = new SystemdCluster({
    name: 'hosts',
    clock,
    machines: [MACHINE],
    units: [{ name: 'a.service', text: '[Service]\nExecStart=/opt/a\n' }],
    conditions: new Map(),
    stopMs: 50,
  });
  const [host] = cluster.hosts;
  if (host === undefined) throw new Error('no host');
  const boot = host.text('/proc/sys/kernel/random/boot_id').trim();
  const begin = (
    key: string,
    how: 'first' | 'repeated',
    { sudo = true, uptime = host.hundredths(), wait = '30', work = VERB_WORK, settle = '2' } = {},
  ) => {
    const args = ['MARK', key, how, boot, uptime, wait, work, 'a.service', 'restart', settle];
    const steps = host.run(['sh', '-c', REQUEST_SCRIPT, 'sh', ...args], { sudo });
    if (steps === undefined || !('next' in steps)) throw new Error('the script is not known');
    return steps;
  };
  const finish = (steps: ReturnType<typeof begin>) => {
    for (;;) {
      const { value, done } = steps.next();
      if (done === true) return value;
      clock.pass(value);
    }
  };
  const request = (...given: Parameters<typeof begin>) => {
    const { stdout = '' } = finish(begin(...given));
    return sectionsOf(stdout, 'MARK', REQUEST_SECTIONS);
  };
  const starts = () => cluster.history('a.service').filter(({ what }) => what === 'started').length;
  return { clock, host, begin, finish, request, starts };
}

const invocationIn = (text: string) => /^InvocationID=(.+)$/m.exec(text)?.[1];

test('the work of a request is done, and what came of it is told', (t) => {
  const { request, starts } = openHost();
  const { outcome, status, before, after, later, output } = request('k1', 'first');
  t.deepEqual([outcome, status.split('\n')[0], output], ['ended\n', '0', '']);
  t.not(invocationIn(before), invocationIn(after));
  t.is(invocationIn(later), invocationIn(after));
  t.is(starts(), 1);
});

test('a request that is repeated is told the same, and does nothing', (t) => {
  const { request, starts } = openHost();
  const first = request('k1', 'first');
  t.deepEqual(request('k1', 'repeated'), first);
  t.is(starts(), 1);
  request('k2', 'repeated');
  t.is(starts(), 2, 'what never began is begun');
});

test('the work goes on when nobody waits for it any more', (t) => {
  const { clock, begin, request, starts } = openHost();
  const steps = begin('k1', 'first');
  steps.next();
  steps.return({ status: 143 });
  clock.pass(10_000);
  t.is(starts(), 1);
  t.is(request('k1', 'repeated').outcome, 'ended\n');
  t.is(starts(), 1);
});

test('an older request with the same key is forgotten', (t) => {
  const { request, starts, host, clock } = openHost();
  request('k1', 'first');
  clock.pass(1_000);
  request('k1', 'first', { uptime: host.hundredths() });
  t.is(starts(), 2);
  // It came before the other one began.
  request('k1', 'first', { uptime: '0' });
  t.is(starts(), 2);
  clock.pass(25 * 3_600_000);
  request('k1', 'repeated');
  t.is(starts(), 3, 'after a day it is not kept any more');
});

test('a request is told that its work goes on at the end of its time', (t) => {
  const { request } = openHost();
  t.is(request('k1', 'first', { wait: '1', settle: '5' }).outcome, 'running\n');
  t.is(request('k1', 'repeated').outcome, 'ended\n');
});

test('without root nothing can be kept, and work that is not known is refused', (t) => {
  const { begin, finish, starts } = openHost();
  t.is(finish(begin('k1', 'first', { sudo: false })).status, 77);
  t.like(finish(begin('k1', 'first', { work: 'reboot' })), { status: 127 });
  t.is(starts(), 0);
});
