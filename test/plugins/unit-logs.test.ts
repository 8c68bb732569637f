import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, open, rm, truncate } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import test from 'ava';
import unitLogs from '../../plugins/unit-logs/index.js';
import { Cluster } from '../../src/api/cluster.js';
import {
  ActionError,
  Clock,
  type DesiredState,
  FleetTransport,
  type ListOptions,
  type Machine,
  RemoteShell,
} from '../../src/plugin.js';
import { prepareAction } from '../../src/core/prepare-action.js';
import { FIELD_NAMES } from '../../src/rpc/field-names.js';
import { eventually } from '../support/eventually.js';
import { JOURNAL_REMOTE, writeJournal } from '../support/machines.js';
import { noteSkipped } from '../support/note-skipped.js';
import { ManualClock } from '../support/manual-clock.js';
import { actionRequest } from '../support/action-request.js';

const ID = { one: '1'.repeat(32), two: '2'.repeat(32), three: '3'.repeat(32) };
const MACHINES: Machine[] = [
  { id: ID.one, primaryIP: '10.0.0.1', metadata: {} },
  { id: ID.two, primaryIP: '10.0.0.2', metadata: {} },
  { id: ID.three, primaryIP: null, metadata: {} },
];
const EVERYWHERE = [
  { section: 'X-Fleet', name: 'Global', value: 'true' },
  { section: 'X-Fleet', name: 'MachineMetadata', value: 'runs=here' },
];
const JOURNALCTL = '/usr/bin/journalctl';
const NOON = Date.UTC(2024, 4, 1, 12) / 1_000;

type Run = RemoteShell['run'];

interface World {
  /** The result of journalctl on a machine. */
  run: Run;
  /** The machines that fleet lists. */
  machines?: Machine[];
  /** Why the list of machines may lack some. */
  flaw?: string;
  /** Where the unit runs. With several machines, or none, it is global, and only these meet its requirements. */
  on?: string[];
  /** The machines that show a state of it; by default those on which it runs. */
  shown?: string[];
  /** What fleet wants of the unit. */
  desiredState?: DesiredState;
  clock?: ManualClock;
  /** How long the request has, in milliseconds; without end by default. */
  leftMs?: number;
  signal?: AbortSignal;
  /** How long fleet takes to list the machines, in milliseconds. */
  fleetMs?: number;
  /** Collects the warnings for the caller. */
  warnings?: string[];
  /** What is known to be missing in the cluster. */
  missing?: string;
}

/** The result of unit_logs for web.service in a cluster of three machines, the last of which has no address. */
async function logs(
  parameters: object,
  {
    run,
    machines = MACHINES,
    flaw,
    on = [ID.one],
    shown = on,
    desiredState = 'launched',
    clock = new ManualClock(),
    leftMs = Number.POSITIVE_INFINITY,
    signal = new AbortController().signal,
    fleetMs = 0,
    warnings = [],
    missing,
  }: World,
): Promise<string> {
  const fleet = {
    machines: async (_cluster: Cluster, { warn }: ListOptions) => {
      if (flaw !== undefined) warn?.(flaw);
      clock.advance(fleetMs);
      return machines.map((machine) =>
        on.includes(machine.id) ? { ...machine, metadata: { runs: 'here' } } : machine,
      );
    },
    incompleteness: async () => missing,
    unit: async () =>
      on.length === 1
        ? { name: 'web.service', desiredState, machineID: on[0], options: [] }
        : { name: 'web.service', desiredState, machineID: null, options: EVERYWHERE },
    unitStates: async () => shown.map((machineID) => ({ machineID })),
  };
  const parts = new Map<symbol, unknown>([
    [RemoteShell, { run }],
    [Clock, clock],
    [FleetTransport, fleet],
  ]);
  const action = prepareAction(unitLogs, (token) => parts.get(token), {
    parametersName: FIELD_NAMES.parameters,
  });
  const answer = await action.run(
    actionRequest({
      parameters: action.check({ unit_name: 'web.service', ...parameters }),
      cluster: new Cluster('token'),
      signal,
      deadline: clock.now() + leftMs,
      warn: (text) => warnings.push(text),
    }),
  );
  return String(answer);
}

const printing =
  (stdout: string, { stderr = '', truncated = false } = {}): Run =>
  async () => ({ stdout, stderr, truncated });

const failing =
  (code: string, details?: object): Run =>
  async (host) => {
    throw new ActionError(code, `${host}: ${code}`, { details });
  };

const hanging: Run = (_host, _argv, { signal }) =>
  new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason)));

async function errorOf(answer: Promise<unknown>): Promise<ActionError> {
  return answer.then(
    () => Promise.reject(new Error('it did not fail')),
    (error: unknown) => (error instanceof ActionError ? error : Promise.reject(error)),
  );
}

test('lines come oldest first, with each entry complete', async (t) => {
  const printed = [
    'May 01 12:02:00 core-1 web[1]: three',
    'May 01 12:01:00 core-1 web[1]: two',
    '                              and its second line',
    'May 01 12:00:00 core-1 web[1]: one',
    '',
  ].join('\n');
  t.is(
    await logs({}, { run: printing(printed) }),
    [
      'May 01 12:00:00 core-1 web[1]: one',
      'May 01 12:01:00 core-1 web[1]: two',
      '                              and its second line',
      'May 01 12:02:00 core-1 web[1]: three',
      '',
    ].join('\n'),
  );
});

test('the newest lines are requested first, with and without time limits', async (t) => {
  for (const bounds of [{}, { since: '-2h' }, { until: 'now' }, { since: '-2h', until: 'now' }]) {
    const asked: string[] = [];
    const run: Run = async (_host, argv) => {
      asked.push(...argv);
      return { stdout: '', stderr: '', truncated: false };
    };
    await logs(bounds, { run });
    t.true(asked.includes('--reverse'), JSON.stringify(bounds));
  }
});

test('the newest lines of too much output are kept, and the first line says that older ones are missing', async (t) => {
  const printed =
    'May 01 12:02:00 a web[1]: three\nMay 01 12:01:00 a web[1]: two\nMay 01 12:00:00 a web[1]: on';
  t.is(
    await logs({ since: '-2h' }, { run: printing(printed, { truncated: true }) }),
    '[older lines are left out: there are more than 1048576 bytes]\nMay 01 12:01:00 a web[1]: two\nMay 01 12:02:00 a web[1]: three\n',
  );
});

test("journalctl's lines about reboots, which would be in the wrong place, are left out", async (t) => {
  const printed = [
    '-- Logs begin at Wed 2024-05-01 10:00:00 UTC, end at Wed 2024-05-01 13:00:00 UTC. --',
    'May 01 12:02:00 a web[1]: -- two --',
    '-- Boot 0123456789abcdef0123456789abcdef --',
    'May 01 12:01:00 a web[1]: one',
    '-- Reboot --',
    'May 01 12:00:00 a web[1]: none',
    '',
  ].join('\n');
  t.is(
    await logs({}, { run: printing(printed) }),
    'May 01 12:00:00 a web[1]: none\nMay 01 12:01:00 a web[1]: one\nMay 01 12:02:00 a web[1]: -- two --\n',
  );
});

test('where there are no entries, what journalctl says of it is reported, as far as it goes', async (t) => {
  const said = 'No journal files were found.\n      At all';
  const none = '-- No entries --\n';
  t.is(await logs({}, { run: printing(none) }), none);
  t.is(
    await logs({}, { run: printing(none, { stderr: `${said}\n` }) }),
    `${none}[journalctl: No journal files were found. At all]\n`,
  );
  const much = await logs({}, { run: printing(none, { stderr: `${'x'.repeat(5_000)}\n`.repeat(100) }) });
  t.true(much.length < 700);
});

test('what journalctl says beside entries, such as which files it ignores, is a first line and a warning', async (t) => {
  const entry = 'May 01 12:00:00 a web[1]: one\n';
  const ignored = ['corrupted', 'is truncated'].map(
    (why, n) => `Journal file /var/log/journal/1/system@${n}.journal ${why}, ignoring file.`,
  );
  const run = printing(entry, { stderr: `${ignored.join('\n')}\n` });
  const said = `journalctl on 10.0.0.1: ${ignored.join(' ')}`;
  const warnings: string[] = [];
  t.is(await logs({}, { run, warnings }), `[lines may be missing: ${said}]\n${entry}`);
  t.deepEqual(warnings, [`Lines may be missing: ${said}`]);

  warnings.length = 0;
  const text = await logs(
    {},
    {
      run: (...call) => (call[0] === '10.0.0.1' ? run : printing(entry))(...call),
      on: [ID.one, ID.two],
      warnings,
    },
  );
  t.is(text, `==> ${ID.one} <==\n[lines may be missing: ${said}]\n${entry}\n==> ${ID.two} <==\n${entry}`);
  t.deepEqual(warnings, [`Lines of 1 of 2 machines may be missing: ${ID.one}: ${said}`]);

  warnings.length = 0;
  const many = printing(entry, { stderr: `${ignored.join('\n')}\n`.repeat(50) });
  t.true((await logs({}, { run: many, warnings })).length < 700);
  t.regex(warnings.join(), /ignoring file\. \(and 97 more lines\)$/);

  warnings.length = 0;
  await logs({}, { run: printing('-- No entries --\n', { stderr: `${ignored[0]}\n` }), warnings });
  t.deepEqual(warnings, [`Lines may be missing: journalctl on 10.0.0.1: ${ignored[0]}`]);
});

test('a journalctl that is stopped before it printed an entry is a failure, not an empty log', async (t) => {
  const stderr = `\u001b[31merr\u001b[0m ${'e'.repeat(5_000)}\n`.repeat(210);
  for (const stdout of ['', '-- Boot 1 --\n']) {
    const error = await errorOf(logs({}, { run: printing(stdout, { stderr, truncated: true }) }));
    t.is(error.code, 'command_failed');
    t.like(error, { details: { host: '10.0.0.1', reason: 'no_journal_lines' } });
    t.regex(error.message, /10\.0\.0\.1 was stopped: .*, and no line of the journal: err e{100,200}$/);
  }
  const two = 'May 01 12:02:00 a web[1]: two\nMay 01 12:01:00 a web[1]: o';
  t.regex(
    await logs({}, { run: printing(two, { stderr, truncated: true }) }),
    /^\[lines may be missing: [^\n]*\]\n\[older lines may be missing: .* to stderr\]\nMay 01 12:02:00 a web\[1\]: two\n$/,
  );
});

test('an entry that is too large alone is shown as far as it goes', async (t) => {
  const text = await logs(
    {},
    { run: printing(`May 01 12:00:00 a web[1]: ${'é'.repeat(99)}`, { truncated: true }) },
  );
  t.regex(text, /^\[older lines are left out: .*\]\nMay 01 12:00:00 a web\[1\]: é{99}\n$/);
});

test('text that becomes larger when it is made readable stays within the limit, with the newest lines', async (t) => {
  const lines = Array.from(
    { length: 9 },
    (_, n) => `May 01 12:00:0${9 - n} a web[1]: ${'\t'.repeat(30_000)}${n}\n`,
  );
  const text = await logs({}, { run: printing(lines.join('')) });
  t.true(Buffer.byteLength(text) < 1_100_000);
  const numbers = [...text.matchAll(/(\d)$/gm)].map(([, n]) => Number(n));
  t.deepEqual(numbers, [3, 2, 1, 0]);
  t.regex(text, /^\[older lines are left out/);
});

test('a machine that hangs loses only its own part of a global unit', async (t) => {
  const clock = new ManualClock();
  const asked: string[] = [];
  const run: Run = (host, ...rest) => {
    asked.push(host);
    return host === '10.0.0.1'
      ? hanging(host, ...rest)
      : printing('May 01 12:00:00 b web[1]: here\n')(host, ...rest);
  };
  const answer = logs({}, { run, clock, on: [ID.one, ID.two, ID.three] });
  await eventually('both are queried', () => asked.length === 2);
  clock.advance(20_000);
  t.is(
    await answer,
    [
      `==> ${ID.one} <==\n[not read: timeout: 10.0.0.1 was not read within 20 s]\n`,
      `==> ${ID.two} <==\nMay 01 12:00:00 b web[1]: here\n`,
      `==> ${ID.three} <==\n[not read: host_unreachable: fleet lists no address of the machine ${ID.three}]\n`,
    ].join('\n'),
  );
  t.is(clock.pending, 0);
});

test('a machine that hangs until the deadline of the request costs the parts of the others nothing', async (t) => {
  for (const [leftMs, ms] of [
    [10_000, 9_000],
    [1_000, 500],
  ] as const) {
    const clock = new ManualClock();
    const run: Run = (host, ...rest) =>
      host === '10.0.0.1'
        ? hanging(host, ...rest)
        : printing('May 01 12:00:00 b web[1]: here\n')(host, ...rest);
    const answer = logs({}, { run, clock, on: [ID.one, ID.two], leftMs });
    await eventually('one is read and the other hangs', () => clock.pending === 1);
    clock.advance(ms);
    t.is(
      await answer,
      [
        `==> ${ID.one} <==\n[not read: timeout: 10.0.0.1 was not read within ${Math.ceil(ms / 1_000)} s]\n`,
        `==> ${ID.two} <==\nMay 01 12:00:00 b web[1]: here\n`,
      ].join('\n'),
    );
  }
});

test('what fleet takes is no longer left for the machines', async (t) => {
  const clock = new ManualClock();
  const failed = errorOf(logs({}, { run: hanging, clock, fleetMs: 18_000 }));
  await eventually('it is asked', () => clock.pending === 1);
  clock.advance(7_000);
  t.is((await failed).code, 'timeout');
});

test('the only machine of a unit has no more time than one of several', async (t) => {
  const clock = new ManualClock();
  const failed = errorOf(logs({}, { run: hanging, clock }));
  await eventually('it is asked', () => clock.pending === 1);
  clock.advance(19_999);
  t.is(clock.pending, 1);
  clock.advance(1);
  t.like(await failed, { code: 'timeout', message: '10.0.0.1 was not read within 20 s' });
});

test('when the request ends there is no result, however many parts were read', async (t) => {
  const clock = new ManualClock();
  const request = new AbortController();
  const run: Run = (host, ...rest) =>
    host === '10.0.0.1'
      ? hanging(host, ...rest)
      : printing('May 01 12:00:00 b web[1]: here\n')(host, ...rest);
  const failed = errorOf(logs({}, { run, clock, on: [ID.one, ID.two], signal: request.signal }));
  await eventually('one is read and the other hangs', () => clock.pending === 1);
  const reason = new ActionError('timeout', 'the deadline of the request passed');
  request.abort(reason);
  t.is(await failed, reason);
});

test('a unit whose machine has left the cluster is reported as that', async (t) => {
  const gone = 'f'.repeat(32);
  const error = await errorOf(logs({}, { run: printing(''), on: [gone] }));
  t.is(error.code, 'machine_not_found');
  t.true(error.message.includes(gone));
});

test('while the cluster is known to be incomplete, a machine that is not listed is not the mistake of the caller', async (t) => {
  const gone = 'f'.repeat(32);
  const missing = 'Discovery names 4 hosts of this cluster, but fleet lists 3 machines';
  const error = await errorOf(logs({}, { run: printing(''), on: [gone], missing }));
  t.is(error.code, 'cluster_incomplete');
  t.true(error.message.includes(missing));
  t.is(await logs({}, { run: printing('here'), missing }), await logs({}, { run: printing('here') }));
});

const MISSING = 'Discovery names 4 hosts of this cluster, but fleet lists 3 machines, without 10.0.0.4';
const HERE = 'May 01 12:00:00 a web[1]: here\n';

test('the lines of a global unit are read from every machine that should run it, also from one that shows no state', async (t) => {
  const both = [`==> ${ID.one} <==\n${HERE}`, `==> ${ID.two} <==\n${HERE}`].join('\n');
  const warnings: string[] = [];
  for (const shown of [[], [ID.two], [ID.one, ID.two]])
    for (const desiredState of ['launched', 'loaded'] as const)
      t.is(
        await logs({}, { run: printing(HERE), on: [ID.one, ID.two], shown, desiredState, warnings }),
        both,
      );
  const on = [ID.one, ID.two];
  t.is(await logs({ machine_id: ID.two }, { run: printing(HERE), on, shown: [], warnings }), HERE);
  t.deepEqual(warnings, []);
});

test('while the cluster is known to be incomplete, the lines of a global unit come with a warning and a last line', async (t) => {
  const note = `more machines may have lines: ${MISSING}`;
  const warnings: string[] = [];
  const world = { run: printing(HERE), on: [ID.one, ID.two], missing: MISSING, warnings };
  t.is(await logs({}, world), `==> ${ID.one} <==\n${HERE}\n==> ${ID.two} <==\n${HERE}\n[${note}]\n`);
  t.deepEqual(warnings, [note]);
  warnings.length = 0;
  const [first] = MACHINES;
  t.is(await logs({}, { ...world, machines: first ? [first] : [], shown: [] }), `${HERE}\n[${note}]\n`);
  t.deepEqual(warnings, [note]);
  warnings.length = 0;
  t.is(await logs({ machine_id: ID.one }, world), HERE);
  t.deepEqual(warnings, [], 'the machine that was asked for is listed');
});

const FOURTH = '4'.repeat(32);
const GLOBAL = [ID.one, ID.two];
for (const [what, parameters, world, code] of [
  [
    'a global unit on a machine that an incomplete cluster does not list',
    { machine_id: FOURTH },
    { on: GLOBAL, missing: MISSING },
    'cluster_incomplete',
  ],
  [
    'a global unit on a machine that is not in the cluster',
    { machine_id: FOURTH },
    { on: GLOBAL },
    'machine_not_found',
  ],
  [
    'a global unit on a listed machine that does not meet its requirements',
    { machine_id: ID.three },
    { on: GLOBAL, missing: MISSING },
    'unit_not_scheduled',
  ],
  [
    'a global unit while fleet lists no machine',
    {},
    { on: GLOBAL, shown: [], machines: [] },
    'cluster_incomplete',
  ],
  [
    'a global unit on a machine while fleet lists none',
    { machine_id: ID.one },
    { on: GLOBAL, shown: [], machines: [] },
    'cluster_incomplete',
  ],
  ['a unit whose machine is not listed while fleet lists none', {}, { machines: [] }, 'cluster_incomplete'],
  [
    'a unit that runs nowhere in an incomplete cluster',
    {},
    { on: [], missing: MISSING },
    'cluster_incomplete',
  ],
  ['a unit that runs nowhere', {}, { on: [] }, 'unit_not_scheduled'],
  [
    'a global unit that fleet does not want to run',
    {},
    { on: GLOBAL, shown: [], desiredState: 'inactive' },
    'unit_not_scheduled',
  ],
  [
    'a unit that fleet has scheduled to another machine, also in an incomplete cluster',
    { machine_id: FOURTH },
    { missing: MISSING },
    'unit_not_scheduled',
  ],
] as const satisfies readonly (readonly [string, object, Partial<World>, string])[]) {
  test(`without a machine to read, the error is ${code} for ${what}`, async (t) => {
    const { on, shown, machines, ...rest }: Partial<World> = world;
    const given = { on: on && [...on], shown: shown && [...shown], machines: machines && [...machines] };
    const error = await errorOf(logs(parameters, { run: printing(HERE), ...rest, ...given }));
    t.is(error.code, code, error.message);
  });
}

test('a machine that was left out of the list is not said to have left the cluster', async (t) => {
  const flaw = 'Some machines of the cluster cannot be read correctly: "4444" was left out';
  const left = await errorOf(logs({}, { run: printing(''), on: ['4'.repeat(32)], flaw }));
  t.is(left.code, 'cluster_incomplete');
  t.regex(left.message, /is not listed\. Some machines of the cluster cannot be read correctly/);
});

test('when no machine is read, the error has the failures of all, and the code of one that the caller can fix', async (t) => {
  const on = [ID.one, ID.two, ID.three];
  const missing: Run = async (host) => {
    throw new ActionError('command_failed', `journalctl on ${host} failed with exit status 127: not found`, {
      details: { host, exitStatus: 127 },
    });
  };
  const error = await errorOf(logs({}, { run: missing, on }));
  const failures = [
    [ID.one, 'command_failed', 'journalctl on 10.0.0.1 failed with exit status 127: not found'],
    [ID.two, 'command_failed', 'journalctl on 10.0.0.2 failed with exit status 127: not found'],
    [ID.three, 'host_unreachable', `fleet lists no address of the machine ${ID.three}`],
  ] as const;
  t.is(error.code, 'command_failed');
  t.is(error.message, `no machine could be read: ${failures.map((each) => each.join(': ')).join('; ')}`);
  t.like(error.details, {
    exitStatus: 127,
    machines: failures.map(([machine, code, message]) => ({ machine, code, message })),
  });

  const run: Run = (host, ...rest) =>
    host === '10.0.0.1'
      ? failing('host_unreachable')(host, ...rest)
      : failing('command_failed', { stderr: 'Failed to parse timestamp: -99999y\n' })(host, ...rest);
  const callers = await errorOf(logs({ since: '-99999y' }, { run, on }));
  t.is(callers.code, 'invalid_parameters');
  t.like(callers.details, { fields: [{ field: 'action_parameters.since' }] });
});

test('when some machines are not read, the reply warns of them; when all are read, it does not', async (t) => {
  const warnings: string[] = [];
  const run: Run = (host, ...rest) =>
    host === '10.0.0.1' ? failing('login_refused')(host, ...rest) : printing('')(host, ...rest);
  await logs({}, { run, on: [ID.one, ID.two], warnings });
  t.deepEqual(warnings, [
    `1 of 2 machines could not be read: ${ID.one}: login_refused: 10.0.0.1: login_refused`,
  ]);
  warnings.length = 0;
  await logs({}, { run: printing(''), on: [ID.one, ID.two], warnings });
  t.deepEqual(warnings, []);
});

test('nothing that fleet or a machine says controls a terminal, looks like a part of another machine, or fills the reply', async (t) => {
  const hostile = `x\u001b]0;title\u0007\u202e\u009b2J\n==> ${ID.two} <==\n${'y'.repeat(500_000)}`;
  const machines = [...MACHINES, { id: hostile, primaryIP: hostile, metadata: {} }];
  const run: Run = async (host, ...rest) => {
    if (host !== '10.0.0.1') throw new ActionError('command_failed', hostile);
    return printing('May 01 12:00:00 a web[1]: x\n')(host, ...rest);
  };
  const text = await logs({}, { run, machines, on: [ID.one, hostile] });
  t.notRegex(text, /[^\P{Cc}\n]|[\u2028-\u202e]/u);
  t.is(text.match(/^==> /gm)?.length, 2);
  t.regex(text, /^\[not read: command_failed: x.*\]$/m);
  t.true(text.length < 5_000);
});

test('a defect is not taken for a machine that could not be read', async (t) => {
  const run: Run = async (host) => {
    if (host === '10.0.0.1') throw new TypeError('defect');
    return { stdout: '', stderr: '', truncated: false };
  };
  await t.throwsAsync(logs({}, { run, on: [ID.one, ID.two] }), { instanceOf: TypeError });
});

test('a journal that the login user may not read is a failure, not an empty log', async (t) => {
  const hint = 'Hint: You are currently not seeing messages from other users and the system.\n';
  const refusals: Run[] = [
    printing('-- No entries --\n', { stderr: hint }),
    printing('', { stderr: hint }),
    failing('command_failed', {
      exitStatus: 1,
      stderr: 'No journal files were opened due to insufficient permissions.\n',
    }),
  ];
  for (const run of refusals) {
    const error = await errorOf(logs({}, { run }));
    t.is(error.code, 'command_failed');
    t.regex(
      error.message,
      /may not read the journal of 10\.0\.0\.1: add the user to the group systemd-journal/,
    );
    t.like(error.details, { reason: 'journal_forbidden' });
  }
});

test('lines from a journal of which the login user may read only a part come with the reason and a warning', async (t) => {
  const hint = [
    'Hint: You are currently not seeing messages from other users and the system.',
    "      Users in groups 'adm', 'systemd-journal' can see all messages.",
    '      Pass -q to turn off this notice.\n',
  ].join('\n');
  const entry = 'May 01 12:00:00 a web[1]: one\n';
  const reason =
    'the login user may not read some of the journal of 10.0.0.1: add the user to the group systemd-journal there, which takes effect within 30 s, or set SSH_SUDO=true';
  const ignored = 'Journal file /a is truncated, ignoring file.';
  const warnings: string[] = [];
  const run = printing(entry, { stderr: hint });
  t.is(await logs({}, { run, warnings }), `[lines may be missing: ${reason}]\n${entry}`);
  t.deepEqual(warnings, [`Lines may be missing: ${reason}`]);
  t.is(
    await logs({}, { run: printing(entry, { stderr: `${hint}${ignored}\n` }) }),
    `[lines may be missing: ${reason}]\n[lines may be missing: journalctl on 10.0.0.1: ${ignored}]\n${entry}`,
  );
});

/** As many machines as wished, and their ids. */
function manyMachines(count: number): { machines: Machine[]; on: string[] } {
  const on = Array.from({ length: count }, (_, n) => String(n).padStart(32, '0'));
  return { on, machines: on.map((id, n) => ({ id, primaryIP: `10.1.${n >> 8}.${n & 255}`, metadata: {} })) };
}

test('however many machines a unit runs on, 32 of them are read at the same time, all in turn', async (t) => {
  let [running, most] = [0, 0];
  const run: Run = async (host) => {
    most = Math.max(most, ++running);
    await new Promise(setImmediate);
    running--;
    return { stdout: `May 01 12:00:00 b web[1]: ${host}\n`, stderr: '', truncated: false };
  };
  const { machines, on } = manyMachines(200);
  const text = await logs({}, { run, machines, on });
  t.is(most, 32);
  t.is(
    text,
    machines.map(({ id, primaryIP }) => `==> ${id} <==\nMay 01 12:00:00 b web[1]: ${primaryIP}\n`).join('\n'),
  );
});

test('machines that hang do not use up the time of those that wait for their turn', async (t) => {
  const clock = new ManualClock();
  const { machines, on } = manyMachines(97);
  const asked: string[] = [];
  const run: Run = (host, ...rest) => {
    asked.push(host);
    return host === '10.1.0.32' ? printing('here\n')(host, ...rest) : hanging(host, ...rest);
  };
  const answer = logs({}, { run, machines, on, clock });
  await eventually('the first machines are asked', () => asked.length === 32);
  clock.advance(12_000);
  await eventually('the next ones are asked, and one is read', () => asked.length === 65);
  clock.advance(12_000);
  await eventually('the last ones are asked', () => asked.length === 97);
  clock.advance(1_000);
  const parts = (await answer).split('==> ').slice(1);
  t.is(parts[0], `${on[0]} <==\n[not read: timeout: 10.1.0.0 was not read within 12 s]\n\n`);
  t.is(parts[32], `${on[32]} <==\nhere\n\n`);
  t.is(parts[96], `${on[96]} <==\n[not read: timeout: 10.1.0.96 was not read within 1 s]\n`);
});

test('a machine whose turn does not come is reported as that', async (t) => {
  const clock = new ManualClock();
  const { machines, on } = manyMachines(33);
  let asked = 0;
  const run: Run = (...call) => {
    asked += 1;
    return hanging(...call);
  };
  const failed = errorOf(logs({}, { run, machines, on, clock, leftMs: 10_000 }));
  await eventually('the first machines are asked', () => asked === 32);
  clock.advance(9_000);
  const { details } = await failed;
  t.is(asked, 32);
  t.like((details as { machines: object[] }).machines[32], {
    machine: on[32],
    code: 'timeout',
    message: 'it was not read within 9 s, because of too many slow machines; name it with machine_id',
  });
});

test('of more than 512 machines the first ones are read, and the reply says how many are not', async (t) => {
  const { machines, on } = manyMachines(20_000);
  const warnings: string[] = [];
  let read = 0;
  const run: Run = async () => {
    read += 1;
    return { stdout: 'here\n', stderr: '', truncated: false };
  };
  const text = await logs({}, { run, machines, on, warnings });
  const tooMany = '19488 more machines were not read: a request reads at most 512; name one with machine_id';
  t.is(read, 512);
  t.deepEqual(warnings, [tooMany]);
  t.true(text.endsWith(`==> ${on[511]} <==\nhere\n\n[${tooMany}]\n`));
  t.is(await logs({ machine_id: on[19_999] }, { run, machines, on }), 'here\n');
});

test('of a journalctl that takes too long, the newest whole lines are returned, and the first line says why', async (t) => {
  const failure = new ActionError('timeout', 'journalctl on 10.0.0.1 took longer than 18 s');
  const printingUntilLimit =
    (stdout: string): Run =>
    async (_host, _argv, { partial }) => {
      if (partial !== true) throw failure;
      return { stdout, stderr: '', truncated: false, failure };
    };
  const [newest, older] = ['May 01 12:02:00 a web[1]: two\n', 'May 01 12:01:00 a web[1]: one\n'];
  const warnings: string[] = [];
  t.is(
    await logs({}, { run: printingUntilLimit(`${newest}${older}May 01 12:0`), warnings }),
    `[older lines may be missing: journalctl on 10.0.0.1 took longer than 18 s]\n${older}${newest}`,
  );
  t.deepEqual(warnings, ['Lines may be missing: journalctl on 10.0.0.1 took longer than 18 s']);
  t.is(await errorOf(logs({}, { run: printingUntilLimit('May 01') })), failure);
});

test('journalctl has less time than its machine, so that the error says what hung', async (t) => {
  const limits: number[] = [];
  const run: Run = async (_host, _argv, { timeoutMs }) => {
    limits.push(timeoutMs);
    return { stdout: '', stderr: '', truncated: false };
  };
  await logs({}, { run });
  await logs({}, { run, leftMs: 1_000 });
  await logs({}, { run, ...manyMachines(33) });
  t.deepEqual([...new Set(limits)], [18_000, 375, 10_000]);
});

test('the machines of a global unit share the room in the reply', async (t) => {
  const limits: number[] = [];
  const run: Run = async (_host, _argv, { maxOutputBytes }) => {
    limits.push(maxOutputBytes);
    return { stdout: '', stderr: '', truncated: false };
  };
  await logs({}, { run });
  const gone = (count: number) => Array.from({ length: count }, (_, n) => String(n).padStart(32, 'f'));
  await logs({}, { run, on: [ID.one, ...gone(63)] });
  await logs({}, { run, on: [ID.one, ...gone(9_999)] });
  t.deepEqual(limits, [1_048_576, 131_072, 16_384]);
});

test('times that journalctl refuses are an error of the caller, and reported by their field', async (t) => {
  const refusal = async (stderr: string) => {
    const run = failing('command_failed', { exitStatus: 1, stderr });
    const { code, details } = await errorOf(logs({ since: '-99999y', until: '2024-05-01' }, { run }));
    return { code, fields: (details as { fields?: { field: string }[] }).fields?.map(({ field }) => field) };
  };
  t.deepEqual(await refusal('Failed to parse timestamp: -99999y\n'), {
    code: 'invalid_parameters',
    fields: ['action_parameters.since'],
  });
  t.deepEqual(await refusal('Failed to parse timestamp: 2024-05-01\n'), {
    code: 'invalid_parameters',
    fields: ['action_parameters.until'],
  });
  t.deepEqual(await refusal('--since= must be before --until=.\n'), {
    code: 'invalid_parameters',
    fields: ['action_parameters.since', 'action_parameters.until'],
  });
  t.deepEqual(await refusal('Failed to open journal: Bad message\n'), {
    code: 'command_failed',
    fields: undefined,
  });
});

const TAKEN = [
  '1970-01-02',
  '2199-12-31',
  '2024-02-29',
  '2024-05-01 10:00',
  '2024-05-01 10:00:59 UTC',
  '10:00',
  '23:59:59',
  'now',
  'today',
  'yesterday',
  'tomorrow',
  '@0',
  '@9999999999',
  '-2h',
  '+5min 3s',
  '-1 day 2 hours 3min 4 sec',
  '30 min ago',
  '10000 hours ago',
  '1us ago',
  '2 weeks ago',
  '1 month 1 year ago',
];
const REFUSED = [
  '1969-12-31',
  '0000-01-01',
  '2200-01-01',
  '9999-12-31',
  '999999999y ago',
  '-123456s',
  '@99999999999',
  '2024-13-01',
  '2026-02-30 10:00',
  '2025-02-29 UTC',
  '2024-11-31',
  '2024-05-01T10:00',
  '24:00',
  '2h',
  '--until=now',
  '-2h\n',
  '$(date)',
  '',
];

test('times outside the grammar are refused before any machine is contacted', async (t) => {
  for (const field of ['since', 'until']) {
    for (const text of REFUSED) {
      const error = await errorOf(logs({ [field]: text }, { run: printing('') }));
      t.is(error.code, 'invalid_parameters', text);
      t.like(error.details, { fields: [{ field: `action_parameters.${field}` }] });
    }
  }
});

test('of the dates from 1970 to 2199 exactly those of the calendar are accepted', async (t) => {
  const printed = printing('');
  for (let year = 1970; year < 2200; year += 1) {
    // 28 February and those days that do not exist in every month or year.
    for (const day of ['02-28', '02-29', '02-30', '02-31', '04-31', '06-31', '09-31', '11-31', '12-31']) {
      const date = `${year}-${day}`;
      const time = new Date(`${date}T00:00:00Z`);
      const exists = !Number.isNaN(time.getTime()) && time.toISOString().startsWith(date);
      const code = await logs({ since: date }, { run: printed }).then(
        () => 'accepted',
        (error: ActionError) => error.code,
      );
      t.is(code, exists ? 'accepted' : 'invalid_parameters', date);
    }
  }
});

/** Messages as programs write them, and how they are shown. */
const MESSAGES: readonly (readonly [written: string | Buffer, shown: string])[] = [
  ['plain, é漢🙂  ', 'plain, é漢🙂  '],
  ['tab\there', 'tab        here'],
  ['two\nlines', `two\n${' '.repeat(31)}lines`],
  [Buffer.from('latin \xe9\xe8', 'latin1'), 'latin \u{fffd}\u{fffd}'],
  ['\u001b[1;31mred\u001b[0m text', 'red text'],
  ['\u001b]0;title\u0007text\u001b[2K\u001b(B', 'text'],
  ['\u001b]0;no end', '␛]0;no end'],
  ['crlf\r\nlines\r', `crlf\n${' '.repeat(31)}lines`],
  ['10%\r20%\r', '10%␍20%'],
  ['bell\u0007 backspace\b delete\u007f', 'bell␇ backspace␈ delete␡'],
  ['before NUL\0after\nnext line', `before NUL\n${' '.repeat(31)}next line`],
  ['c1 \u009b31m, bidi \u202e, line \u2028', 'c1 \u{fffd}31m, bidi \u{fffd}, line \u{fffd}'],
  [`${'x'.repeat(70_000)}\u0007`, `${'x'.repeat(70_000)}␇`],
];

if (existsSync(JOURNALCTL) && existsSync(JOURNAL_REMOTE)) {
  test('journalctl accepts every form of time in the grammar', async (t) => {
    const empty = await mkdtemp(join(tmpdir(), 'unit-logs-'));
    t.teardown(async () => rm(empty, { recursive: true }));
    const run: Run = async (_host, [program, ...args]) => {
      t.is(program, 'journalctl');
      const output = await promisify(execFile)(JOURNALCTL, [`--directory=${empty}`, ...args]);
      return { ...output, truncated: false };
    };
    for (const time of TAKEN) t.regex(await logs({ since: time }, { run }), /^-- No entries --$/m, time);
  });

  test('every message that a program can write is shown, and lines that were whole are as journalctl prints them', async (t) => {
    const folder = await mkdtemp(join(tmpdir(), 'unit-logs-'));
    t.teardown(async () => rm(folder, { recursive: true }));
    await writeJournal(
      join(folder, 'test.journal'),
      MESSAGES.map(([message], second) => ({ unit: 'web.service', message, at: NOON + second })),
    );
    const journalctl = async (...args: string[]) => {
      const options = {
        env: { ...process.env, TZ: 'UTC' },
        encoding: 'buffer',
        maxBuffer: 10_000_000,
      } as const;
      return promisify(execFile)(JOURNALCTL, [`--directory=${folder}`, ...args], options);
    };
    const run: Run = async (_host, [, ...args]) => {
      const { stdout, stderr } = await journalctl(...args);
      return { stdout: stdout.toString('utf8'), stderr: stderr.toString('utf8'), truncated: false };
    };
    const shown = await logs({ lines: 100 }, { run });
    const expected = MESSAGES.map(([, text], second) => {
      const seconds = String(second).padStart(2, '0');
      return `May 01 12:00:${seconds} core-1 web[1]: ${text}\n`;
    });
    t.is(shown, expected.join(''));

    // Without --all journalctl replaces a message that it cannot print.
    const { stdout } = await journalctl('--unit=web.service', '--output=short', '--no-pager');
    const whole = stdout
      .toString('utf8')
      .trimEnd()
      .split(/\n(?=\S)/)
      .filter((line) => !line.endsWith(' blob data]'));
    t.true(whole.length >= 5);
    for (const line of whole) t.true(shown.includes(line.trimEnd()), line.slice(0, 80));
  });
  test('the journal files that journalctl ignores are told with the lines of the others', async (t) => {
    const folder = await mkdtemp(join(tmpdir(), 'unit-logs-'));
    t.teardown(async () => rm(folder, { recursive: true }));
    const write = async (file: string, message: string, second: number) => {
      const path = join(folder, file);
      await writeJournal(path, [{ unit: 'web.service', message, at: NOON + second }]);
      return path;
    };
    const corrupted = await write('corrupted.journal', 'one', 0);
    const cut = await write('cut.journal', 'two', 1);
    await write('whole.journal', 'three', 2);
    const run: Run = async (_host, [, ...args]) => {
      const options = { env: { ...process.env, TZ: 'UTC' } };
      const printed = await promisify(execFile)(JOURNALCTL, [`--directory=${folder}`, ...args], options);
      return { ...printed, truncated: false };
    };
    const warnings: string[] = [];
    const three = 'May 01 12:00:02 core-1 web[1]: three\n';
    t.true((await logs({}, { run, warnings })).endsWith(`: two\n${three}`));
    t.deepEqual(warnings, []);

    const header = await open(corrupted, 'r+');
    await header.write(Buffer.alloc(64, 0x5a), 0, 64, 0);
    await header.close();
    await truncate(cut, 100);
    const text = await logs({}, { run, warnings });
    t.regex(text, /^\[lines may be missing: [^\n]*\]\n[^\n]* three\n$/);
    t.is(warnings.length, 1);
    for (const file of [corrupted, cut]) t.true(warnings[0]?.includes(`${file} `), warnings[0]);
    t.regex(warnings[0] ?? '', /ignoring file/);
  });
} else {
  noteSkipped('unit_logs with the real journalctl', 'journalctl and systemd-journal-remote');
}
