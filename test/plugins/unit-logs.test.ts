import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import test from 'ava';
import unitLogs from '../../plugins/unit-logs/index.js';
import { Cluster } from '../../src/api/cluster.js';
import { ActionError, Clock, FleetTransport, type Machine, RemoteShell } from '../../src/plugin.js';
import { prepareAction } from '../../src/core/prepare-action.js';
import { FIELD_NAMES } from '../../src/rpc/field-names.js';
import { eventually } from '../support/eventually.js';
import { noteSkipped } from '../support/note-skipped.js';
import { ManualClock } from '../support/manual-clock.js';
import { actionRequest } from '../support/action-request.js';

const ID = { one: '1'.repeat(32), two: '2'.repeat(32), three: '3'.repeat(32) };
const MACHINES: Machine[] = [
  { id: ID.one, primaryIP: '10.0.0.1', metadata: {} },
  { id: ID.two, primaryIP: '10.0.0.2', metadata: {} },
  { id: ID.three, primaryIP: null, metadata: {} },
];
const JOURNALCTL = '/usr/bin/journalctl';

type Run = RemoteShell['run'];

interface World {
  /** The result of journalctl on a machine. */
  run: Run;
  /** Where the unit runs. With several machines it is global. */
  on?: string[];
  clock?: ManualClock;
  signal?: AbortSignal;
  /** What is known to be missing in the cluster. */
  missing?: string;
}

/** The result of unit_logs for web.service in a cluster of three machines, the last of which has no address. */
async function logs(
  parameters: object,
  { run, on = [ID.one], clock = new ManualClock(), signal = new AbortController().signal, missing }: World,
): Promise<string> {
  const fleet = {
    machines: async () => MACHINES,
    incompleteness: async () => missing,
    unit: async () => ({ machineID: on.length === 1 ? on[0] : null }),
    unitStates: async () => on.map((machineID) => ({ machineID })),
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
  const hint =
    'Hint: You are currently not seeing messages from other users and the system.\n      Users in groups';
  const none = '-- No entries --\n';
  t.is(await logs({}, { run: printing(none) }), none);
  t.is(
    await logs({}, { run: printing(none, { stderr: `${hint}\n` }) }),
    `${none}[journalctl: Hint: You are currently not seeing messages from other users and the system. Users in groups]\n`,
  );
  const much = await logs({}, { run: printing(none, { stderr: `${'x'.repeat(5_000)}\n`.repeat(100) }) });
  t.true(much.length < 700);
  const entry = 'May 01 12:00:00 a web[1]: one\n';
  t.is(await logs({}, { run: printing(entry, { stderr: hint }) }), entry);
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
      `==> ${ID.one} <==\n[not read: timeout: 10.0.0.1 did not respond within 20 s]\n`,
      `==> ${ID.two} <==\nMay 01 12:00:00 b web[1]: here\n`,
      `==> ${ID.three} <==\n[not read: host_unreachable: fleet lists no address of the machine ${ID.three}]\n`,
    ].join('\n'),
  );
  t.is(clock.pending, 0);
});

test('the only machine of a unit has no more time than one of several', async (t) => {
  const clock = new ManualClock();
  const failed = errorOf(logs({}, { run: hanging, clock }));
  await eventually('it is asked', () => clock.pending === 1);
  clock.advance(19_999);
  t.is(clock.pending, 1);
  clock.advance(1);
  t.like(await failed, { code: 'timeout', message: '10.0.0.1 did not respond within 20 s' });
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

test('when no machine is read, the failure of one is reported, preferably one that the caller can fix', async (t) => {
  const on = [ID.one, ID.two];
  t.is((await errorOf(logs({}, { run: failing('login_refused'), on }))).code, 'login_refused');
  const run: Run = (host, ...rest) =>
    host === '10.0.0.1'
      ? failing('host_unreachable')(host, ...rest)
      : failing('command_failed', { stderr: 'Failed to parse timestamp: -99999y\n' })(host, ...rest);
  t.is((await errorOf(logs({ since: '-99999y' }, { run, on }))).code, 'invalid_parameters');
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
  '2024-02-31',
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

if (existsSync(JOURNALCTL)) {
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
} else {
  noteSkipped('the forms of time against journalctl', 'journalctl');
}
