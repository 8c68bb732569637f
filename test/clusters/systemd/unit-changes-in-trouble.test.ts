import { randomUUID } from 'node:crypto';
import test, { type ExecutionContext } from 'ava';
import type {
  ChangeRequest,
  PutOrder,
  UnitChange,
  UnitOrder,
  UnitPut,
} from '../../../src/api/unit-control.js';
import { systemClock } from '../../../src/lib/clock.js';
import { actionRequest } from '../../support/action-request.js';
import { eventually, HUNG_MS } from '../../support/eventually.js';
import {
  bootMachines,
  machinesCanRun,
  type SystemdMachine,
  type SystemdMachines,
} from '../../support/systemd-machines.js';
import { clusterOf } from './machines-as-clusters.js';

if (await machinesCanRun('changes of units on machines in trouble')) {
  let booted: SystemdMachines;
  let unused: Iterator<SystemdMachine>;
  test.before(async () => {
    booted = await bootMachines(5);
    unused = booted.machines.values();
  });
  test.after.always(async () => booted?.stop());

  const world = async (t: ExecutionContext) => {
    const { value: machine } = unused.next();
    if (machine === undefined) throw new Error('boot more machines');
    const { control, cluster } = await clusterOf(t, booted, [machine], { sudo: true });
    const requestOf = (given: Partial<ChangeRequest> = {}): ChangeRequest => ({
      ...actionRequest({ cluster }),
      deadline: systemClock.now() + HUNG_MS,
      key: randomUUID(),
      ...given,
    });
    /** What came of it on the machine, also when it failed. */
    const cameTo = async <Change extends UnitChange>(changes: Promise<Change[]>): Promise<Change> => {
      const [change] = await changes.catch((error: unknown) => {
        const { details } = error as { details?: { changes?: Change[] } };
        if (details?.changes === undefined) throw error;
        return details.changes;
      });
      if (change === undefined) throw new Error('nothing');
      return change;
    };
    return {
      machine,
      change: async (order: UnitOrder, given?: Partial<ChangeRequest>) =>
        cameTo(control.change(requestOf(given), { settleMs: 0, ...order })),
      put: async (
        texts: Readonly<Record<string, string>>,
        order: Partial<PutOrder> = {},
        given?: Partial<ChangeRequest>,
      ): Promise<UnitPut> =>
        cameTo(
          control.put(requestOf(given), {
            files: Object.entries(texts).map(([unit, text]) => ({ unit, text })),
            activate: 'restart',
            machines: [machine.machine.id],
            settleMs: 1_000,
            ...order,
          }),
        ),
      destroy: async (unit: string) => cameTo(control.destroy(requestOf(), { unit })),
      run: async (script: string) => (await machine.run(script)).trim(),
    };
  };

  const sleeping = (more = '') => `[Service]\nExecStart=/bin/sleep infinity\n${more}`;
  const counting = sleeping("ExecStartPre=/bin/sh -c 'echo start >>/run/starts'\n");
  const FAILS = '[Service]\nExecStart=/bin/false\n';

  test('a machine that cannot keep what it does, or write the files, does nothing and says so', async (t) => {
    const { change, put, destroy, run } = await world(t);
    const [web, api] = ['web.service', 'api.service'];
    await put({ [web]: counting, [api]: sleeping() }, { activate: 'start' });
    const starts = async () => run('wc -l </run/starts');
    const requests = '/var/lib/fleet-manager';
    t.log('read-only, with and without the folder');
    await run(
      `mount -t tmpfs tmpfs ${requests}; mkdir ${requests}/requests; mount -o remount,ro ${requests}`,
    );
    for (let times = 0; times < 2; times++) {
      const { error } = await change({ unit: web, verb: 'restart' });
      t.is(error?.code, 'command_failed', error?.message);
      t.regex(error?.message ?? '', /read-only/i);
      if (times === 0)
        await run(
          `mount -o remount,rw ${requests}; rmdir ${requests}/requests; mount -o remount,ro ${requests}`,
        );
    }
    await run(`umount ${requests}`);
    t.log('full');
    await run(`mount -t tmpfs -o size=32k tmpfs ${requests}; mkdir ${requests}/requests
      dd if=/dev/zero of=${requests}/fill bs=1k count=100 2>/dev/null || true`);
    t.like((await change({ unit: web, verb: 'restart' })).error, { code: 'command_failed' });
    t.like((await destroy(web)).error, { code: 'command_failed' });
    t.is(await run(`ls ${requests}/requests`), '');
    t.log('almost full: the files do not fit');
    await run(`dd if=/dev/zero of=${requests}/fill bs=1k count=12 2>/dev/null`);
    const long = await put({ [web]: `${counting}#${'x'.repeat(40_000)}\n` });
    t.like(long, { did: 'nothing', error: { code: 'command_failed' } });
    t.is(await run(`cat /etc/systemd/system/${web}`), counting.trim());
    t.is(await starts(), '1');
    await run(`umount ${requests}`);
    t.log('no room for the second file');
    await run(`cp -a /etc/systemd/system /root/saved; mount -t tmpfs -o size=64k tmpfs /etc/systemd/system
      cp -a /root/saved/. /etc/systemd/system/; systemctl daemon-reload`);
    const first = await put({ [web]: `${counting}# new\n`, [api]: `${sleeping()}#${'x'.repeat(70_000)}\n` });
    t.like(first, { did: 'returned', error: { code: 'command_failed' } });
    t.is(await run(`cat /etc/systemd/system/${web}`), counting.trim());
    t.is(await starts(), '1');
    t.is(await run('ls -A /etc/systemd/system | grep fm- || true'), '');
    t.log('read-only unit files');
    await run('mount -o remount,ro /etc/systemd/system');
    const kept = await destroy(api);
    t.like(kept, { did: 'stopped', error: { code: 'command_failed' } });
    await run('umount /etc/systemd/system; systemctl daemon-reload');
  });

  test('what a request has done is not forgotten when the clock of the machine is set', async (t) => {
    const { change, put, run } = await world(t);
    const unit = 'web.service';
    await put({ [unit]: counting }, { activate: 'start' });
    const key = randomUUID();
    const restart: UnitOrder = { unit, verb: 'restart' };
    t.is((await change(restart, { key })).did, 'restarted');
    // As if the clock had been set forward since.
    await run('touch -d "3 days ago" /var/lib/fleet-manager/requests/*');
    t.is((await change({ unit, verb: 'reset-failed' })).did, 'nothing');
    t.is((await change(restart, { key, repeated: true })).did, 'restarted');
    t.is(await run('wc -l </run/starts'), '2');
    t.log('what is of an earlier boot is removed after a day');
    await run(`cd /var/lib/fleet-manager/requests
      for each in *; do sed -i "1s/.*/$(cat /proc/sys/kernel/random/uuid)/" $each/began; done
      mkdir 0ld; touch -d "3 days ago" *`);
    await change({ unit, verb: 'reset-failed' });
    t.is(await run('ls /var/lib/fleet-manager/requests | wc -l'), '1');
  });

  test('a change that systemd gets, and begins late, is not said to be refused', async (t) => {
    const { change, put, run } = await world(t);
    const unit = 'web.service';
    await put({ [unit]: counting }, { activate: 'start' });
    // systemd takes the order and does not answer: systemd-run gives up, and the work begins later.
    await run(`cat >/usr/local/bin/systemd-run <<'END'
#!/bin/sh
( sleep 3; exec /usr/bin/systemd-run "$@" ) >/dev/null 2>&1 </dev/null &
echo 'Failed to start transient service unit: Connection timed out' >&2
exit 1
END
      chmod 755 /usr/local/bin/systemd-run`);
    const key = randomUUID();
    const { error } = await change({ unit, verb: 'restart' }, { key });
    t.is(error?.code, 'command_failed', error?.message);
    await run('rm /usr/local/bin/systemd-run; sleep 4');
    t.is(await run('wc -l </run/starts'), '1');
    t.deepEqual((await change({ unit, verb: 'restart' }, { key, repeated: true })).error, error);
    t.is(await run('wc -l </run/starts'), '1');
  });

  test('files return whole, with their mode, and units as they were', async (t) => {
    const { put, run } = await world(t);
    const [web, idle, bad] = ['web.service', 'idle.service', 'bad.service'];
    await put({ [web]: sleeping(), [idle]: sleeping() }, { activate: 'none' });
    await run(`cd /etc/systemd/system; chmod 600 ${web}; systemctl start ${web}`);
    const modes = async () => run(`stat -c %a /etc/systemd/system/${web}`);
    t.log('a unit that was inactive is so again');
    const back = await put(
      { [web]: `${sleeping()}# 2\n`, [idle]: `${sleeping()}# 2\n`, [bad]: FAILS },
      { activate: 'start' },
    );
    t.is(back.did, 'returned');
    t.is(await run(`systemctl is-active ${idle} || true`), 'inactive');
    t.is(await run(`systemctl is-active ${web}`), 'active');
    t.is(await modes(), '600');
    t.log('a delivery of the same request says the same');
    const key = randomUUID();
    const texts = { 'web@.service': sleeping(), [web]: `${sleeping()}# 3\n` };
    const once = await put(texts, {}, { key });
    t.is(await modes(), '600');
    t.is(once.did, 'created');
    const order: Partial<PutOrder> = {};
    t.deepEqual(await put(texts, order, { key, repeated: true }), once);
    await run(`ln -sf /dev/null /etc/systemd/system/${web}; systemctl daemon-reload`);
    await t.throwsAsync(put(texts, order, { key, repeated: true }), { code: 'outcome_unknown' });
    await run(`rm /etc/systemd/system/${web}`);
    t.log('neither the new file nor the old one runs');
    await put(
      { [web]: sleeping('ExecCondition=/bin/sh -c "! [ -e /run/broken ]"\n') },
      { activate: 'start' },
    );
    const half = put({ [web]: sleeping('ExecStartPre=/bin/touch /run/broken\nExecStartPre=/bin/false\n') });
    t.like(await half, { did: 'returned', error: { code: 'unit_failed' } });
    t.regex((await half).error?.message ?? '', /do not run with them either/);
    await run('rm -f /run/broken');
    t.log('a file that somebody changes meanwhile is left so');
    const slow = put({ [web]: sleeping('# 4\n') }, { activate: 'start', settleMs: 3_000 });
    await eventually('the file is written', async () =>
      (await run(`cat /etc/systemd/system/${web}`)).includes('# 4'),
    );
    await run(`echo '# mine' >>/etc/systemd/system/${web}`);
    t.like(await slow, { did: 'replaced', error: { code: 'unit_changed_meanwhile' } });
    t.true((await run(`cat /etc/systemd/system/${web}`)).endsWith('# mine'));
    t.log('longer than one command can be');
    await t.throwsAsync(put({ [web]: `#${'ü'.repeat(48_000)}` }), { code: 'invalid_parameters' });
    await put({ [web]: `${sleeping()}#${'ü'.repeat(40_000)}` });
  });

  test('a unit that is started again while it is removed is not said to be gone', async (t) => {
    const { machine, change, put, destroy, run } = await world(t);
    const name = String.raw`a\x2db\tc-${'x'.repeat(100)}.service`;
    await put({ [name]: sleeping() }, { activate: 'start' });
    t.is(await run(`systemctl is-active -- '${name}'`), 'active');
    t.like(await destroy(name), { did: 'stopped and removed', error: null });
    t.log('a check that is given up leaves nothing');
    await machine.installCommand('systemd-analyze', 'touch /run/checks; exec sleep 60');
    const checking = new AbortController();
    const check = put({ 'web.service': sleeping() }, { dryRun: true }, { signal: checking.signal });
    await eventually('it is checked', async () => (await run('ls /run/checks 2>/dev/null || true')) !== '');
    checking.abort(new Error('given up'));
    await t.throwsAsync(check);
    await eventually(
      'the folder is removed',
      async () => (await run('ls -d /tmp/tmp.* 2>/dev/null || true')) === '',
    );
    await run('rm /usr/local/bin/systemd-analyze');
    t.log('a systemctl that floods');
    await put({ 'web.service': sleeping() }, { activate: 'start' });
    await machine.installCommand(
      'systemctl',
      '[ "$1" = reload ] && { head -c 10000000 /dev/zero | tr "\\0" x; exit 1; }; exec /usr/bin/systemctl "$@"',
    );
    t.like((await change({ unit: 'web.service', verb: 'reload' })).error, { code: 'unit_cannot_reload' });
    t.log('started while it is removed');
    await machine.installCommand(
      'systemctl',
      '[ "$1" = disable ] && /usr/bin/systemctl start web.service; exec /usr/bin/systemctl "$@"',
    );
    const gone = await destroy('web.service');
    await run('rm /usr/local/bin/systemctl');
    t.like(gone, { did: 'removed', after: { active: 'active' }, error: { code: 'unit_did_not_stop' } });
    t.is(
      await run(
        "ls -d /tmp/tmp.* 2>/dev/null || true; systemctl list-units --all --plain --no-legend 'fm-*'",
      ),
      '',
    );
  });
}
