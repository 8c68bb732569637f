import { randomUUID } from 'node:crypto';
import test, { type ExecutionContext } from 'ava';
import fc from 'fast-check';
import type { PutOrder, UnitPut } from '../../../src/api/unit-control.js';
import { systemClock } from '../../../src/lib/clock.js';
import { actionRequest } from '../../support/action-request.js';
import { HUNG_MS } from '../../support/eventually.js';
import { machinePool, machinesCanRun } from '../../support/systemd-machines.js';
import { clusterOf } from './machines-as-clusters.js';

if (await machinesCanRun('unit files on systemd machines')) {
  const { booted, takeMachine } = machinePool(test, 8);

  const world = async (t: ExecutionContext, count = 1) => {
    const machines = Array.from({ length: count }, takeMachine);
    const { control, transport, cluster, files } = await clusterOf(t, booted(), machines, { sudo: true });
    const [machine] = machines;
    if (machine === undefined) throw new Error('no machine');
    const requestOf = (key: string = randomUUID(), repeated = false) => ({
      ...actionRequest({ cluster }),
      deadline: systemClock.now() + HUNG_MS,
      key,
      repeated,
    });
    const put = async (order: Partial<PutOrder>, key?: string, repeated?: boolean): Promise<UnitPut[]> =>
      control.put(requestOf(key, repeated), {
        files: [],
        activate: 'restart',
        machines: machines.map((each) => each.machine.id),
        settleMs: 1_000,
        ...order,
      });
    return {
      machine,
      machines,
      control,
      files,
      transport,
      cluster,
      requestOf,
      put,
      fileOf: async (unit: string) => machine.run(`cat /etc/systemd/system/${unit} 2>/dev/null || echo none`),
      activeOf: async (unit: string) => (await machine.run(`systemctl is-active ${unit} || true`)).trim(),
    };
  };

  const sleeping = (more = '') =>
    `[Service]\nExecStart=/bin/sleep infinity\n${more}\n[Install]\nWantedBy=multi-user.target\n`;
  const BAD = '[Service]\nExecStart=/bin/false\n';

  test('a file is checked, written whole, and taken back with all others when a unit does not run with it', async (t) => {
    const { put, fileOf, activeOf, machine, control, requestOf } = await world(t);
    const unit = 'web.service';
    t.log('a dry run');
    const [plan] = await put({ files: [{ unit, text: sleeping() }], dryRun: true });
    t.like(plan, { did: 'created', replaced: null, error: null });
    t.regex(plan?.diff ?? '', /^--- \/dev\/null\n/);
    t.is((await fileOf(unit)).trim(), 'none');
    t.log('new and started');
    const [made] = await put({ files: [{ unit, text: sleeping() }], activate: 'start' });
    t.like(made, { did: 'created', after: { active: 'active' }, error: null });
    t.is(await fileOf(unit), sleeping());
    t.is(await activeOf(unit), 'active');
    t.log('the same once more');
    const [same] = await put({ files: [{ unit, text: sleeping() }], activate: 'none' });
    t.like(same, { did: 'nothing', replaced: sleeping(), diff: null });
    t.log('written without a restart, and then with one');
    const newer = sleeping('Nice=3');
    const starts = async () => machine.run('systemctl show -P InvocationID web.service');
    const first = await starts();
    for (const [activate, did, isRestarted] of [
      ['none', 'replaced', false],
      ['restart', 'nothing', true],
      ['restart', 'nothing', true],
    ] as const) {
      const before = await starts();
      t.like((await put({ files: [{ unit, text: newer }], activate }))[0], { did, error: null });
      t.is((await starts()) !== first, isRestarted);
      if (before !== first) t.is(await starts(), before);
    }
    await put({ files: [{ unit, text: sleeping() }] });
    t.log('with what systemd does not accept');
    const wrong = await t.throwsAsync(put({ files: [{ unit, text: '[Service]\nExecStart=relative\n' }] }), {
      code: 'unit_file_invalid',
    });
    t.regex(wrong.message, /relative is not executable/);
    t.is(await fileOf(unit), sleeping());
    t.log('with what it only warns of');
    const [warned] = await put({ files: [{ unit, text: sleeping('NoSuchKey=1') }], dryRun: true });
    t.deepEqual(warned?.diff?.match(/^[+-]\w.*$/gm), ['+NoSuchKey=1']);
    t.regex(warned?.warnings.join('\n') ?? '', /NoSuchKey/);
    t.log('with what does not run, beside one that does');
    const files = [
      { unit, text: `${BAD}# new\n` },
      { unit: 'other.service', text: sleeping() },
    ];
    const failed = await t.throwsAsync(put({ files, activate: 'start' }), { code: 'unit_failed' });
    t.regex(
      failed.message,
      /^web\.service is not active \(exit-code, status 1\) with its new file, so all files/,
    );
    const { changes } = (failed as unknown as { details: { changes: UnitPut[] } }).details;
    t.deepEqual(
      changes.map(({ did }) => did),
      ['returned', 'returned'],
    );
    t.is(await fileOf(unit), sleeping());
    t.is((await fileOf('other.service')).trim(), 'none');
    t.is(await activeOf(unit), 'active');
    t.is((await machine.run('systemctl show -P NeedDaemonReload web.service')).trim(), 'no');
    t.log('with what is started again and again');
    const flaps = '[Service]\nExecStart=/bin/sh -c "sleep 0.3; exit 1"\nRestart=always\nRestartSec=50ms\n';
    const noLimit = '[Unit]\nStartLimitIntervalSec=0\n';
    const flapping = put({
      files: [{ unit: 'flaps.service', text: `${noLimit}${flaps}` }],
      activate: 'start',
    });
    await t.throwsAsync(flapping, { message: /^flaps\.service is (?:started again and again|not active)/ });
    t.is((await fileOf('flaps.service')).trim(), 'none');
    t.log('of which systemd takes another file first');
    await machine.run('systemd-run --unit=transient sleep infinity');
    await t.throwsAsync(put({ files: [{ unit: 'transient.service', text: sleeping() }] }), {
      code: 'unit_file_invalid',
      message: /\/run\/systemd\/transient\/transient\.service/,
    });
    t.log('with a drop-in');
    await machine.run(
      'mkdir /etc/systemd/system/web.service.d; printf "[Service]\\nNice=1\\n" >/etc/systemd/system/web.service.d/a.conf; systemctl daemon-reload',
    );
    const [dropped] = await put({ files: [{ unit, text: sleeping('Nice=2') }], dryRun: true });
    t.regex(dropped?.warnings.join('\n') ?? '', /^web\.service: .* \S*\/web\.service\.d\/a\.conf$/m);
    t.log('a socket whose service runs, and what is being started');
    const socket = '[Socket]\nListenStream=/run/echo.sock\n';
    const echo = '[Service]\nExecStart=/bin/sleep infinity\n';
    await put({
      files: [
        { unit: 'echo.socket', text: socket },
        { unit: 'echo.service', text: echo },
      ],
      activate: 'start',
    });
    t.is(await activeOf('echo.service'), 'active');
    const [changed] = await put({ files: [{ unit: 'echo.socket', text: `${socket}# new\n` }] });
    t.like(changed, { did: 'replaced', after: { active: 'active' }, error: null });
    t.is(await activeOf('echo.service'), 'active');
    const slow = '[Service]\nType=oneshot\nExecStart=/bin/sleep infinity\n';
    await put({ files: [{ unit: 'slow.service', text: slow }], activate: 'none' });
    await machine.run('systemctl start --no-block slow.service');
    const runs = async () => machine.run('systemctl show -P MainPID slow.service');
    const pid = await runs();
    t.like((await put({ files: [{ unit: 'slow.service', text: slow }] }))[0], {
      did: 'nothing',
      error: null,
    });
    t.is(await runs(), pid);
    t.log('masked, or linked to elsewhere');
    await machine.run(
      'ln -s /dev/null /etc/systemd/system/masked.service; ln -s /opt/x.service /etc/systemd/system/x.service',
    );
    await t.throwsAsync(put({ files: [{ unit: 'masked.service', text: sleeping() }] }), {
      code: 'unit_masked',
    });
    await t.throwsAsync(put({ files: [{ unit: 'x.service', text: sleeping() }] }), {
      code: 'unit_file_invalid',
    });
    await t.throwsAsync(control.destroy(requestOf(), { unit: 'masked.service' }), { code: 'unit_masked' });
    t.is((await machine.run('systemctl is-enabled masked.service || true')).trim(), 'masked');
    t.log('another name of a unit, and no file');
    await machine.run('cd /etc/systemd/system; ln -s web.service alias.service; mkdir folder.service');
    await t.throwsAsync(control.destroy(requestOf(), { unit: 'alias.service' }), {
      code: 'unit_file_invalid',
    });
    await t.throwsAsync(put({ files: [{ unit: 'folder.service', text: sleeping() }] }), {
      code: 'unit_file_invalid',
    });
    t.is(await activeOf(unit), 'active');
    t.log('in the place of a file of the distribution');
    const [over] = await put({ files: [{ unit: 'dbus.service', text: sleeping() }], dryRun: true });
    t.regex(over?.warnings.join('\n') ?? '', /^dbus\.service: .* \S*\/lib\/systemd\/system\/dbus\.service$/m);
  });

  test('a new file of a slice counts at once, and what runs in the slice runs on', async (t) => {
    const { put, machine, activeOf } = await world(t);
    await put({
      files: [
        { unit: 'jobs.slice', text: '[Slice]\nTasksMax=100\n' },
        { unit: 'job.service', text: sleeping('Slice=jobs.slice') },
      ],
      activate: 'start',
    });
    const shown = async () => machine.run('systemctl show -P InvocationID job.service');
    const before = await shown();
    const [made] = await put({ files: [{ unit: 'jobs.slice', text: '[Slice]\nTasksMax=200\n' }] });
    t.like(made, { did: 'replaced', after: { active: 'active' }, error: null });
    t.is(await activeOf('job.service'), 'active');
    t.is(await shown(), before);
    t.is((await machine.run('systemctl show -P TasksMax jobs.slice')).trim(), '200');
  });

  test('a name with a colon and with escaped characters is checked, written and removed', async (t) => {
    const { put, fileOf, control, requestOf } = await world(t);
    for (const unit of ['a:b.service', 'a\\x2db.service', 'a:b@c:d.service']) {
      const [made] = await put({ files: [{ unit, text: sleeping('NoSuchKey=1') }], activate: 'start' });
      t.like(made, { did: 'created', after: { active: 'active' }, error: null }, unit);
      t.regex(
        made?.warnings.join('\n') ?? '',
        new RegExp(`^${unit.replace('\\', '\\\\')}:.*NoSuchKey`),
        unit,
      );
      const refused = put({ files: [{ unit, text: '[Service]\nExecStart=relative\n' }] });
      await t.throwsAsync(refused, { code: 'unit_file_invalid', message: /relative is not executable/ });
      await control.destroy(requestOf(), { unit });
      t.is((await fileOf(`'${unit}'`)).trim(), 'none');
    }
  });

  test('a file is written once for a request, and a unit is removed once', async (t) => {
    const { put, fileOf, machine, control, requestOf } = await world(t);
    const unit = 'web.service';
    const key = randomUUID();
    const [first] = await put({ files: [{ unit, text: sleeping() }], activate: 'start' }, key);
    await machine.run(`printf '# changed since\n' >>/etc/systemd/system/${unit}`);
    const [again] = await put({ files: [{ unit, text: sleeping() }], activate: 'start' }, key, true);
    t.like(again, { after: first?.after ?? {}, took_ms: first?.took_ms ?? 0 });
    t.is(await fileOf(unit), `${sleeping()}# changed since\n`);
    const [gone] = await control.destroy(requestOf(), { unit });
    t.like(gone, { did: 'stopped and removed', before: { active: 'active' }, after: { load: 'not-found' } });
    t.is((await fileOf(unit)).trim(), 'none');
    await t.throwsAsync(control.destroy(requestOf(), { unit }), { code: 'unit_not_found' });
    await t.throwsAsync(control.destroy(requestOf(), { unit: 'dbus.service' }), {
      code: 'unit_file_invalid',
    });
  });

  test('any text is written as it is, and read as it is', async (t) => {
    const { put, machine, files, cluster } = await world(t);
    const { signal } = new AbortController();
    const texts = fc.sample(fc.string({ unit: 'binary' }), { numRuns: 20, seed: 7 });
    // What systemd makes of it does not matter: it is a comment, or a template that never runs.
    for (const text of texts) {
      const whole = `[Service]\nExecStart=/bin/true\n#${text.replaceAll(/[\0\\]/g, '').replaceAll('\n', '\n#')}`;
      await put({ files: [{ unit: 'any@.service', text: whole }], activate: 'none' });
      const [read] = await files.read(cluster, 'any@.service', { signal });
      t.is(read?.text, Buffer.from(whole).toString());
      t.is(read?.machine_id, machine.machine.id);
    }
  });

  test('files are read with their drop-ins, and listed with their states, also those that systemd has not read', async (t) => {
    const { machine, files, cluster } = await world(t);
    const { signal } = new AbortController();
    const body = '[Service]\\nExecStart=/bin/sleep infinity\\n[Install]\\nWantedBy=multi-user.target\\n';
    await machine.run(`cd /etc/systemd/system
      for unit in on off web@; do printf '${body}' >$unit.service; done
      printf '[Service]\\nExecStart=/bin/true\\n' >static.service
      ln -s on.service alias.service; ln -s /dev/null masked.service
      mkdir -p /opt/units; printf '${body}' >/opt/units/linked.service; ln -s /opt/units/linked.service .
      systemctl daemon-reload; systemctl enable --now --quiet on web@1
      mkdir on.service.d; printf '[Service]\\nEnvironment=A=1\\n' >on.service.d/more.conf; systemctl daemon-reload
      printf '# changed since\\n' >>on.service; printf '\\377' >latin.service; touch on.service`);
    const states = (await files.list(cluster, { signal })).map(({ unit, state }) => `${unit} ${state}`);
    for (const row of [
      'alias.service alias',
      'linked.service linked',
      'masked.service masked',
      'off.service disabled',
      'on.service enabled',
      'static.service static',
      'web@.service enabled',
    ])
      t.true(states.includes(row), `${row}: ${states.join(', ')}`);
    t.false(states.some((row) => row.startsWith('dbus.service')));
    const all = await files.list(cluster, { signal, all: true });
    t.true(all.some(({ unit }) => unit === 'dbus.service'));
    const [on] = await files.read(cluster, 'on.service', { signal });
    t.like(on, {
      path: '/etc/systemd/system/on.service',
      text: `${body.replaceAll('\\n', '\n')}# changed since\n`,
      drop_ins: [
        { path: '/etc/systemd/system/on.service.d/more.conf', text: '[Service]\nEnvironment=A=1\n' },
      ],
      is_current: false,
    });
    t.like((await files.read(cluster, 'latin.service', { signal }))[0], { text: null, hash: null });
    t.is((await files.read(cluster, 'dbus.service', { signal })).length, 1);
    t.deepEqual(await files.read(cluster, 'missing.service', { signal }), []);
    await t.throwsAsync(files.read(cluster, 'on.service', { signal, machines: ['f'.repeat(32)] }), {
      code: 'machine_not_found',
    });
  });

  test('drop-ins are read whatever their names are, a generated file with its source, and what has no text is told', async (t) => {
    const { machine, files, cluster } = await world(t);
    const { signal } = new AbortController();
    const quoted = (text: string) => `'${text.replaceAll("'", String.raw`'\''`)}'`;
    const write = (path: string, text: string) => `printf %s ${quoted(text)} >${quoted(path)}`;
    const unit = String.raw`a\x2db.service`;
    const source = { path: '/etc/containers/systemd/box.container', text: '[Container]\nImage=box\n' };
    const body = '[Service]\nExecStart=/bin/true\n';
    const dropIns = ['10', '20 with blanks', `30-"quoted" and 'so'`, String.raw`40\x2dback $(false)`].map(
      (name, index) => ({
        path: `/etc/systemd/system/${unit}.d/${name}.conf`,
        text: `[Service]\nEnvironment=N=${index}\n`,
      }),
    );
    await machine.run(
      [
        `mkdir -p /run/systemd/generator /etc/containers/systemd; cd /etc/systemd/system; mkdir ${quoted(`${unit}.d`)} gone.service.d`,
        ...[unit, 'long.service', 'gone.service'].map((path) => write(path, body)),
        ...[source, ...dropIns].map(({ path, text }) => write(path, text)),
        write('/run/systemd/generator/box.service', `[Unit]\nSourcePath=${source.path}\n${body}`),
        'touch gone.service.d/1.conf',
        // PID 1 keeps the units that one refers to which runs.
        write(
          'keeps.service',
          `[Unit]\nAfter=box.service gone.service\n[Service]\nExecStart=/bin/sleep infinity\n`,
        ),
        'systemctl start keeps.service',
        String.raw`head -c 1048576 /dev/zero | tr '\0' '#' >>long.service`,
        'rm gone.service.d/1.conf',
      ].join('\n'),
    );
    const warnings: string[] = [];
    const read = async (name: string) => {
      const [file] = await files.read(cluster, name, { signal, warn: (text) => warnings.push(text) });
      return file;
    };
    t.like(await read(unit), { path: `/etc/systemd/system/${unit}`, source: null, drop_ins: dropIns });
    t.like(await read('box.service'), { path: '/run/systemd/generator/box.service', source });
    t.deepEqual(warnings, []);
    t.like(await read('long.service'), { text: null, hash: null });
    t.like(await read('gone.service'), { text: body, drop_ins: [{ text: null }] });
    t.is(warnings.length, 2, warnings.join('\n'));
    t.regex(warnings[0] ?? '', /long\.service has more than 1048576 bytes/);
    t.regex(warnings[1] ?? '', /gone\.service\.d\/1\.conf, which systemd has read, is not there any more/);
  });

  test("the port of fleet's units changes units of systemd hosts too", async (t) => {
    const { transport, cluster, activeOf, machine } = await world(t);
    const { signal } = new AbortController();
    const options = [
      { section: 'Service', name: 'ExecStart', value: '/bin/sleep infinity' },
      { section: 'Install', name: 'WantedBy', value: 'multi-user.target' },
    ];
    await transport.putUnit(cluster, { name: 'web.service', desiredState: 'launched', options }, { signal });
    t.is(await activeOf('web.service'), 'active');
    t.like(await transport.unit(cluster, 'web.service', { signal }), {
      options,
      desiredState: 'launched',
      currentState: 'launched',
      machineID: machine.machine.id,
    });
    await transport.setDesiredState(cluster, 'web.service', 'loaded', { signal });
    t.like(await transport.unit(cluster, 'web.service', { signal }), {
      desiredState: 'loaded',
      currentState: 'loaded',
    });
    t.true(await transport.destroyUnit(cluster, 'web.service', { signal }));
    t.false(await transport.destroyUnit(cluster, 'web.service', { signal }));
    t.is(await transport.unit(cluster, 'web.service', { signal }), undefined);
  });
}
