import test from 'ava';
import fc from 'fast-check';
import { ActionError, inspectUnit, type InspectedUnit, type RemoteOutput } from '../../src/plugin.js';

const HOST = '10.0.0.1';
const RUNNING = `LoadState=loaded
ActiveState=active
SubState=running
ActiveEnterTimestamp=Wed 2026-11-25 19:05:02 UTC
ActiveExitTimestamp=
InactiveEnterTimestamp=
InactiveExitTimestamp=Wed 2026-11-25 19:05:01 UTC
MainPID=58
MemoryCurrent=5242880
TasksCurrent=3
NRestarts=2
Result=success
ExecMainCode=0
ExecMainStatus=0
InvocationID=f3fd069d32be4ebc95cfb46d50fe77f2
UnitFileState=enabled
NeedDaemonReload=yes
CanReload=no
FragmentPath=/etc/systemd/system/web.service
DropInPaths=
`;
const LINE = 'Nov 25 19:05:02 m1 systemd[1]: Started web.service.\n';

interface Answer {
  shown?: string;
  log?: string;
  said?: string;
  /** Sent in place of all this, or of what comes after its place. */
  end?: (mark: string) => string;
  failure?: ActionError;
  logBytes?: number;
}

/** What is made of the answer of a machine. */
async function inspected({
  shown = RUNNING,
  log = LINE,
  said = 'status=0',
  end,
  failure,
  logBytes = 1_000,
}: Answer): ReturnType<typeof inspectUnit> {
  const run = async (_host: string, [, , , , mark = '']: readonly string[]): Promise<RemoteOutput> => {
    const whole = `\n${mark} unit\n${shown}\n${mark} log\n${log}\n${mark} said\n${said}\n\n${mark} end\n`;
    return {
      stdout: end?.(mark) ?? whole,
      stderr: '',
      truncated: false,
      ...(failure !== undefined && { failure }),
    };
  };
  return inspectUnit({ run }, HOST, 'web.service', {
    lines: 10,
    logBytes,
    timeoutMs: 1_000,
    signal: new AbortController().signal,
  });
}

const unitIn = async (shown: string): Promise<InspectedUnit> => (await inspected({ shown })).unit;
/** What `systemctl show` prints, with other values. */
const shownWith = (values: Record<string, string>) =>
  Object.entries(values).reduce(
    (text, [name, value]) => text.replace(new RegExp(`^${name}=.*$`, 'm'), `${name}=${value}`),
    RUNNING,
  );

test('a unit that runs is described with numbers, truths and a time', async (t) => {
  t.deepEqual(await inspected({}), {
    unit: {
      load: 'loaded',
      active: 'active',
      sub: 'running',
      since: '2026-11-25T19:05:02.000Z',
      main_pid: 58,
      memory_bytes: 5_242_880,
      tasks: 3,
      restarts: 2,
      result: 'success',
      exit_status: null,
      exit_signal: null,
      invocation_id: 'f3fd069d32be4ebc95cfb46d50fe77f2',
      enabled: 'enabled',
      needs_daemon_reload: true,
      can_reload: false,
      fragment_path: '/etc/systemd/system/web.service',
      drop_ins: [],
      log: [LINE.trimEnd()],
    },
    problem: undefined,
  });
});

test('the time is that of the state, as systemctl status shows it', async (t) => {
  const times = {
    ActiveEnterTimestamp: 'Wed 2026-11-25 19:00:01 UTC',
    ActiveExitTimestamp: 'Wed 2026-11-25 19:00:02 UTC',
    InactiveEnterTimestamp: 'Wed 2026-11-25 19:00:03 UTC',
    InactiveExitTimestamp: 'Wed 2026-11-25 19:00:04 UTC',
  };
  for (const [ActiveState, second] of [
    ['active', 1],
    ['reloading', 1],
    ['deactivating', 2],
    ['inactive', 3],
    ['failed', 3],
    ['activating', 4],
  ] as const) {
    const { since } = await unitIn(shownWith({ ...times, ActiveState }));
    t.is(since, `2026-11-25T19:00:0${second}.000Z`, ActiveState);
  }
});

test('a time that is not in UTC, or is none, is not known', async (t) => {
  for (const text of ['', 'n/a', 'Wed 2026-11-25 19:05:02 CET', 'Wed 2026-13-45 19:05:02 UTC'])
    t.is((await unitIn(shownWith({ ActiveEnterTimestamp: text }))).since, null, text);
});

test('an exit status and a signal are told apart', async (t) => {
  const failed = (ExecMainCode: string, ExecMainStatus: string) =>
    unitIn(shownWith({ ActiveState: 'failed', ExecMainCode, ExecMainStatus }));
  t.like(await failed('1', '203'), { exit_status: 203, exit_signal: null });
  t.like(await failed('2', '9'), { exit_status: null, exit_signal: 9 });
  t.like(await failed('3', '11'), { exit_status: null, exit_signal: 11 });
});

test('what systemd has not set is null, in words and as the largest number', async (t) => {
  for (const value of ['[not set]', '18446744073709551615', ''])
    t.like(
      await unitIn(shownWith({ MemoryCurrent: value, TasksCurrent: value, NRestarts: value })),
      { memory_bytes: null, tasks: null, restarts: null },
      value,
    );
});

test('of the past of a unit that systemd has forgotten nothing is known', async (t) => {
  const forgotten = shownWith({
    ActiveState: 'inactive',
    SubState: 'dead',
    ActiveEnterTimestamp: '',
    InactiveExitTimestamp: '',
    MainPID: '0',
    NRestarts: '0',
    InvocationID: '',
  });
  t.like(await unitIn(forgotten), {
    load: 'loaded',
    active: 'inactive',
    since: null,
    main_pid: null,
    restarts: null,
    result: null,
    exit_status: null,
    invocation_id: null,
  });
});

test('what an old systemd does not know is null', async (t) => {
  const old = RUNNING.replace(/^(?:InvocationID|NRestarts|TasksCurrent|DropInPaths)=.*\n/gm, '');
  t.like(await unitIn(old), {
    invocation_id: null,
    restarts: null,
    tasks: null,
    drop_ins: null,
    main_pid: 58,
  });
});

test('paths of drop-ins with blanks and quotes are read as systemctl writes them', async (t) => {
  const DropInPaths = String.raw`/a/10.conf "/a/quo\"te'x.conf" "/a/with space.conf" "/a/back\\slash.conf"`;
  t.deepEqual((await unitIn(shownWith({ DropInPaths }))).drop_ins, [
    '/a/10.conf',
    `/a/quo"te'x.conf`,
    '/a/with space.conf',
    String.raw`/a/back\slash.conf`,
  ]);
});

test("lines of the log control no terminal, and journalctl's own are left out", async (t) => {
  const log = `-- Boot 0123 --\n${LINE}Nov 25 19:05:03 m1 web[58]: \u001b[31mred\u001b[0m\tbell\u0007 bad\u{fffd}\n    more\n`;
  t.deepEqual((await inspected({ log })).unit.log, [
    LINE.trimEnd(),
    'Nov 25 19:05:03 m1 web[58]: red        bell␇ bad\u{fffd}',
    '    more',
  ]);
  t.deepEqual((await inspected({ log: '-- No entries --\n' })).unit.log, []);
});

test('of a log that was cut to its last bytes the first line is left out', async (t) => {
  const log = `of a line\n${LINE}`;
  t.deepEqual((await inspected({ log, logBytes: log.length })).unit.log, [LINE.trimEnd()]);
  t.is((await inspected({ log, logBytes: log.length + 1 })).unit.log?.length, 2);
});

const HINT =
  "Hint: You are currently not seeing messages from other users and the system.\n      Users in groups 'adm', 'systemd-journal' can see all messages.\n";

test('a journal that may not be read is no quiet unit', async (t) => {
  for (const said of [
    `${HINT}status=0`,
    'No journal files were opened due to insufficient permissions.\nstatus=1',
  ]) {
    const { unit, problem } = await inspected({ log: '-- No entries --\n', said });
    t.like(unit, { active: 'active', log: null });
    t.is(problem?.code, 'journal_forbidden');
    t.regex(problem?.message ?? '', /may not read the journal of 10\.0\.0\.1: add the user to the group/);
  }
});

test('lines are told beside the reason why others may be missing', async (t) => {
  const some = await inspected({ said: `${HINT}status=0` });
  t.deepEqual(some.unit.log, [LINE.trimEnd()]);
  t.is(some.problem?.code, 'journal_forbidden');
  t.regex(some.problem?.message ?? '', /may not read some of the journal/);
  const damaged = await inspected({
    said: 'Journal file /var/log/x.journal is truncated, ignoring file.\nstatus=0',
  });
  t.deepEqual(damaged.unit.log, [LINE.trimEnd()]);
  t.is(damaged.problem?.code, 'log_incomplete');
  t.regex(damaged.problem?.message ?? '', /is truncated, ignoring file/);
});

test('a journalctl that fails costs only the log', async (t) => {
  const { unit, problem } = await inspected({ log: '', said: 'sh: 1: journalctl: not found\nstatus=127' });
  t.like(unit, { active: 'active', log: null });
  t.is(problem?.code, 'log_incomplete');
  t.regex(problem?.message ?? '', /\(exit status 127\): sh: 1: journalctl: not found/);
});

test('a journalctl that hangs costs only the log', async (t) => {
  const failure = new ActionError('timeout', 'sh took longer than 18 s');
  const { unit, problem } = await inspected({
    end: (mark) => `\n${mark} unit\n${RUNNING}\n${mark} log\nNov 25`,
    failure,
  });
  t.like(unit, { active: 'active', log: null });
  t.is(problem, failure);
});

test('a machine that says nothing of the unit is an error, with what it says', async (t) => {
  await t.throwsAsync(inspected({ shown: 'System has not been booted with systemd\n' }), {
    code: 'command_failed',
    message: /10\.0\.0\.1 says nothing of the unit: System has not been booted/,
  });
  const failure = new ActionError('timeout', 'sh took longer than 18 s');
  await t.throwsAsync(inspected({ end: (mark) => `\n${mark} unit\nLoadState=loa`, failure }), {
    code: 'timeout',
  });
});

test('whatever a machine prints, it is read or reported as unreadable', async (t) => {
  const name = fc.constantFrom('LoadState', 'ActiveEnterTimestamp', 'DropInPaths', 'MainPID', 'Result');
  const line = fc.oneof(
    fc.string(),
    fc.tuple(name, fc.string()).map(([key, value]) => `${key}=${value}`),
  );
  const text = fc.array(line).map((lines) => lines.join('\n'));
  await fc.assert(
    fc.asyncProperty(text, text, text, async (shown, log, said) => {
      try {
        const { unit } = await inspected({ shown, log, said });
        t.deepEqual(JSON.parse(JSON.stringify(unit)), unit);
      } catch (error) {
        if (!(error instanceof ActionError)) throw error;
      }
    }),
  );
});
