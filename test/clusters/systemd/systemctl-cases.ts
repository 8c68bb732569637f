/** A unit, what systemctl is told, and what comes of it: the same on a machine and on a simulated one. */
export interface SystemctlCase {
  /** What holds, as a sentence. */
  title: string;
  unit: string;
  /** Files that there must be, by path. Undefined as a text: a link to /dev/null. */
  files: Readonly<Record<string, string | undefined>>;
  /** Each: the arguments of systemctl before the name of the unit, the exit status, and what it says. */
  steps: readonly (readonly [verb: string, status: number, says?: RegExp])[];
  /** What it says of the unit in the end: LoadState, ActiveState, SubState, Result, UnitFileState. */
  becomes: readonly [load: string, active: string, sub: string, result: string, enabled: string];
  /** And other properties. */
  also?: Readonly<Record<string, string>>;
  /** It counts starts, which systemd forgets when anything has it read its files again. */
  isAlone?: boolean;
}

const FOLDER = '/etc/systemd/system';
const LOOP = 'ExecStart=/bin/sleep infinity';
const HOUR = '[Unit]\nStartLimitIntervalSec=1h\n[Service]\n';
const INSTALL = '[Install]\nWantedBy=multi-user.target\n';

/** A case with one unit. @param lines of its sections [Unit] and [Service], or a whole file */
function of(
  title: string,
  name: string,
  lines: string,
  rest: Pick<SystemctlCase, 'steps' | 'becomes' | 'also' | 'isAlone'>,
): SystemctlCase {
  const text = lines.startsWith('[') ? lines : `[Service]\n${lines}\n`;
  return { title, unit: name, files: { [`${FOLDER}/${name}`]: text }, ...rest };
}

const RUNNING = ['loaded', 'active', 'running', 'success', 'static'] as const;
const DOWN = ['loaded', 'inactive', 'dead', 'success', 'static'] as const;
const EXIT_CODE = ['loaded', 'failed', 'failed', 'exit-code', 'static'] as const;
const CONTROL =
  /^Job for \S+ failed because the control process exited with error code\.\nSee "systemctl status /;
const TOO_OFTEN =
  /^Job for \S+ failed because start of the service was attempted too often\.\nSee [^]*\nTo force a start use/;

export const SYSTEMCTL_CASES: readonly SystemctlCase[] = [
  of('a service runs after a start, and a second start does nothing', 'sc-ok.service', LOOP, {
    steps: [
      ['start', 0, /^$/],
      ['start', 0, /^$/],
    ],
    becomes: RUNNING,
    also: { NRestarts: '0', ConditionResult: 'yes', CanReload: 'no', Type: 'simple' },
  }),
  of('a stopped unit that nothing needs is forgotten', 'sc-stop.service', LOOP, {
    steps: [
      ['start', 0],
      ['stop', 0, /^$/],
      ['stop', 0, /^$/],
    ],
    becomes: DOWN,
    also: { InvocationID: '', MainPID: '0', ConditionResult: 'no', ConditionTimestampMonotonic: '0' },
  }),
  of(
    'a program that ends at once fails after its start has succeeded',
    'sc-false.service',
    'ExecStart=/bin/false',
    {
      steps: [['start', 0, /^$/]],
      becomes: EXIT_CODE,
      also: { ExecMainStatus: '1', MainPID: '0' },
    },
  ),
  of('a program that is not there is found missing only later', 'sc-missing.service', 'ExecStart=/no/such', {
    steps: [['start', 0, /^$/]],
    becomes: EXIT_CODE,
    also: { ExecMainStatus: '203' },
  }),
  of('with Type=exec a missing program fails the start', 'sc-exec.service', 'Type=exec\nExecStart=/no/such', {
    steps: [['start', 1, CONTROL]],
    becomes: EXIT_CODE,
    also: { ExecMainStatus: '203' },
  }),
  of('a oneshot that ends well leaves no trace', 'sc-one.service', 'Type=oneshot\nExecStart=/bin/true', {
    steps: [['start', 0, /^$/]],
    becomes: DOWN,
    also: { InvocationID: '', Type: 'oneshot' },
  }),
  of(
    'a oneshot that remains is active',
    'sc-remains.service',
    'Type=oneshot\nRemainAfterExit=yes\nExecStart=/bin/true',
    {
      steps: [['restart', 0, /^$/]],
      becomes: ['loaded', 'active', 'exited', 'success', 'static'],
      also: { RemainAfterExit: 'yes' },
    },
  ),
  of(
    'a oneshot that fails fails its start',
    'sc-onebad.service',
    'Type=oneshot\nExecStart=/bin/sh -c "exit 3"',
    {
      steps: [['start', 1, CONTROL]],
      becomes: EXIT_CODE,
      also: { ExecMainStatus: '3' },
    },
  ),
  of(
    'a service that is never ready times out',
    'sc-late.service',
    `Type=notify\nTimeoutStartSec=1\n${LOOP}`,
    {
      steps: [['start', 1, /^Job for sc-late\.service failed because a timeout was exceeded\.\nSee "/]],
      becomes: ['loaded', 'failed', 'failed', 'timeout', 'static'],
    },
  ),
  of(
    'a condition that does not hold skips the start',
    'sc-cond.service',
    `[Unit]\nConditionPathExists=/no/such\n[Service]\n${LOOP}\n`,
    {
      steps: [['start', 0, /^$/]],
      becomes: DOWN,
    },
  ),
  of(
    'an assertion that does not hold fails the start',
    'sc-assert.service',
    `[Unit]\nAssertPathExists=/no/such\n[Service]\n${LOOP}\n`,
    {
      steps: [['start', 1, /^Assertion failed on job for sc-assert\.service\.$/]],
      becomes: DOWN,
    },
  ),
  {
    title: 'a unit is not started when one that it requires fails',
    unit: 'sc-dep.service',
    files: {
      [`${FOLDER}/sc-need.service`]: '[Service]\nType=oneshot\nExecStart=/bin/false\n',
      [`${FOLDER}/sc-dep.service`]: `[Unit]\nRequires=sc-need.service\nAfter=sc-need.service\n[Service]\n${LOOP}\n`,
    },
    steps: [
      ['start', 1, /^A dependency job for sc-dep\.service failed\. See 'journalctl -xe' for details\.$/],
    ],
    becomes: DOWN,
  },
  of(
    'the sixth start within the interval stops a healthy service, and leaves it failed',
    'sc-often.service',
    `${HOUR}${LOOP}\n`,
    {
      steps: [
        ['restart', 0],
        ['restart', 0],
        ['restart', 0],
        ['restart', 0],
        ['restart', 0],
        ['restart', 1, TOO_OFTEN],
        ['start', 1, TOO_OFTEN],
      ],
      isAlone: true,
      becomes: ['loaded', 'failed', 'failed', 'start-limit-hit', 'static'],
    },
  ),
  of('after reset-failed such a service starts again', 'sc-again.service', `${HOUR}${LOOP}\n`, {
    steps: [
      ['restart', 0],
      ['restart', 0],
      ['restart', 0],
      ['restart', 0],
      ['restart', 0],
      ['restart', 1],
      ['reset-failed', 0, /^$/],
      ['start', 0],
    ],
    isAlone: true,
    becomes: RUNNING,
  }),
  of(
    'the count of starts begins anew when systemd reads its files again',
    'sc-anew.service',
    `${HOUR}${LOOP}\n${INSTALL}`,
    {
      steps: [
        ['restart', 0],
        ['restart', 0],
        ['restart', 0],
        ['restart', 0],
        ['restart', 0],
        ['enable', 0],
        ['restart', 0],
      ],
      isAlone: true,
      becomes: ['loaded', 'active', 'running', 'success', 'enabled'],
    },
  ),
  of(
    'a service that systemd restarts in vain fails at its limit',
    'sc-limit.service',
    `${HOUR}Restart=always\nRestartSec=50ms\nExecStart=/bin/false\n`,
    {
      steps: [['start', 0]],
      isAlone: true,
      becomes: EXIT_CODE,
      also: { NRestarts: '5' },
    },
  ),
  of(
    'without a limit it is restarted again and again',
    'sc-flap.service',
    `[Unit]\nStartLimitIntervalSec=0\n[Service]\nRestart=always\nRestartSec=30\nExecStart=/bin/false\n`,
    {
      steps: [['start', 0]],
      becomes: ['loaded', 'activating', 'auto-restart', 'exit-code', 'static'],
    },
  ),
  of(
    'a unit that waits for its next start is stopped at once',
    'sc-halt.service',
    'Restart=always\nRestartSec=30\nExecStart=/bin/false',
    {
      steps: [
        ['start', 0],
        ['stop', 0, /^$/],
      ],
      becomes: DOWN,
    },
  ),
  of(
    'a failed unit stays failed when it is stopped',
    'sc-failed.service',
    'Type=oneshot\nExecStart=/bin/false',
    {
      steps: [
        ['start', 1],
        ['stop', 0, /^$/],
      ],
      becomes: EXIT_CODE,
    },
  ),
  of('reset-failed forgets a failure', 'sc-reset.service', 'Type=oneshot\nExecStart=/bin/false', {
    steps: [
      ['start', 1],
      ['reset-failed', 0, /^$/],
      [
        'reset-failed',
        1,
        /^Failed to reset failed state of unit sc-reset\.service: Unit sc-reset\.service not loaded\.$/,
      ],
    ],
    becomes: DOWN,
    also: { ExecMainStatus: '0', InvocationID: '' },
  }),
  of('a service is reloaded when its file says how', 'sc-reload.service', `${LOOP}\nExecReload=/bin/true`, {
    steps: [
      ['reload', 1, /^sc-reload\.service is not active, cannot reload\.$/],
      ['start', 0],
      ['reload', 0, /^$/],
    ],
    becomes: RUNNING,
    also: { CanReload: 'yes' },
  }),
  of(
    'a reload that fails leaves the service running',
    'sc-badload.service',
    `${LOOP}\nExecReload=/bin/false`,
    {
      steps: [
        ['start', 0],
        ['reload', 1, /^Job for sc-badload\.service failed/],
      ],
      becomes: RUNNING,
    },
  ),
  of('a service without ExecReload cannot be reloaded', 'sc-noload.service', LOOP, {
    steps: [
      ['start', 0],
      [
        'reload',
        3,
        /^Failed to reload sc-noload\.service: Job type reload is not applicable for unit sc-noload\.service\.$/,
      ],
    ],
    becomes: RUNNING,
  }),
  of('enable makes a link, once', 'sc-enable.service', `[Service]\n${LOOP}\n${INSTALL}`, {
    steps: [
      [
        'enable',
        0,
        /^Created symlink \/etc\/systemd\/system\/multi-user\.target\.wants\/sc-enable\.service -> \/etc\/systemd\/system\/sc-enable\.service\.$/,
      ],
      ['enable', 0, /^$/],
    ],
    becomes: ['loaded', 'inactive', 'dead', 'success', 'enabled'],
  }),
  of('disable removes it, once', 'sc-disable.service', `[Service]\n${LOOP}\n${INSTALL}`, {
    steps: [
      ['enable', 0],
      ['disable', 0, /^Removed "\/etc\/systemd\/system\/multi-user\.target\.wants\/sc-disable\.service"\.$/],
      ['disable', 0, /^$/],
    ],
    becomes: ['loaded', 'inactive', 'dead', 'success', 'disabled'],
  }),
  of('an enabled unit that is stopped stays loaded', 'sc-kept.service', `[Service]\n${LOOP}\n${INSTALL}`, {
    steps: [
      ['enable', 0],
      ['start', 0],
      ['stop', 0],
    ],
    becomes: ['loaded', 'inactive', 'dead', 'success', 'enabled'],
    also: { ConditionResult: 'yes' },
  }),
  of('a unit without [Install] cannot be enabled, which systemctl only says', 'sc-static.service', LOOP, {
    steps: [
      ['enable', 0, /^The unit files have no installation config [^]*instance name specified\.$/],
      ['disable', 0, /^$/],
    ],
    becomes: DOWN,
  }),
  {
    title: 'an instance has the file of its template',
    unit: 'sc-tpl@a.service',
    files: { [`${FOLDER}/sc-tpl@.service`]: `[Unit]\nDescription=Number %i\n[Service]\n${LOOP}\n${INSTALL}` },
    steps: [
      ['start', 0],
      ['enable', 0, /wants\/sc-tpl@a\.service -> \/etc\/systemd\/system\/sc-tpl@\.service\.$/],
    ],
    becomes: ['loaded', 'active', 'running', 'success', 'enabled'],
    also: { Description: 'Number a', FragmentPath: '/etc/systemd/system/sc-tpl@.service' },
  },
  {
    title: 'a template cannot be started',
    unit: 'sc-tpl2@.service',
    files: { [`${FOLDER}/sc-tpl2@.service`]: `[Service]\n${LOOP}\n` },
    steps: [
      [
        'start',
        1,
        /^Failed to start sc-tpl2@\.service: Unit name sc-tpl2@\.service is missing the instance name\.\nSee /,
      ],
      ['show', 1, /Unit name sc-tpl2@\.service is neither a valid invocation ID nor unit name\.$/],
    ],
    becomes: ['', '', '', '', ''],
  },
  {
    title: 'a unit that is not there is not found, or not loaded',
    unit: 'sc-nothing.service',
    files: {},
    steps: [
      ['start', 5, /^Failed to start sc-nothing\.service: Unit sc-nothing\.service not found\.$/],
      ['stop', 5, /^Failed to stop sc-nothing\.service: Unit sc-nothing\.service not loaded\.$/],
      ['reload', 5, /^Failed to reload sc-nothing\.service: Unit sc-nothing\.service not found\.$/],
      ['enable', 1, /^Failed to enable unit: Unit file sc-nothing\.service does not exist\.$/],
      ['disable', 1, /^Failed to disable unit: Unit file sc-nothing\.service does not exist\.$/],
      ['reset-failed', 1, /not loaded\.$/],
      ['is-active', 3, /^$/],
      ['is-enabled', 1, /^Failed to get unit file state for sc-nothing\.service: No such file or directory$/],
    ],
    becomes: ['not-found', 'inactive', 'dead', 'success', ''],
    also: { Type: '' },
  },
  {
    title: 'a masked unit is refused, but can be stopped',
    unit: 'sc-masked.service',
    files: { [`${FOLDER}/sc-masked.service`]: undefined },
    steps: [
      ['start', 1, /^Failed to start sc-masked\.service: Unit sc-masked\.service is masked\.$/],
      ['stop', 0, /^$/],
      [
        'enable',
        1,
        /^Failed to enable unit: Unit file \/etc\/systemd\/system\/sc-masked\.service is masked\.$/,
      ],
    ],
    becomes: ['masked', 'inactive', 'dead', 'success', 'masked'],
  },
  of('a file without a command is a bad setting', 'sc-bad.service', 'Type=simple', {
    steps: [
      [
        'start',
        1,
        /^Failed to start sc-bad\.service: Unit sc-bad\.service has a bad unit file setting\.\nSee system logs and 'systemctl status sc-bad\.service' for details\.$/,
      ],
      ['stop', 5, /not loaded\.$/],
    ],
    becomes: ['bad-setting', 'inactive', 'dead', 'success', 'static'],
  }),
  of('a section that is not closed is an error', 'sc-header.service', '[Service\nExecStart=/bin/true\n', {
    steps: [
      [
        'start',
        1,
        /failed to load properly, please adjust\/correct and reload service manager: Bad message\nSee /,
      ],
    ],
    becomes: ['error', 'inactive', 'dead', 'success', 'bad'],
  }),
  of('an unknown verb is refused', 'sc-verb.service', LOOP, {
    steps: [
      ['begin', 1, /^Unknown command verb begin\.$/],
      ['show --bogus', 1, /^systemctl: unrecognized option '--bogus'$/],
    ],
    becomes: DOWN,
  }),
  {
    title: 'a timer waits, and keeps its service loaded',
    unit: 'sc-tick.timer',
    files: {
      [`${FOLDER}/sc-tick.timer`]: '[Timer]\nOnCalendar=2099-01-01\n',
      [`${FOLDER}/sc-tick.service`]: '[Service]\nType=oneshot\nExecStart=/bin/true\n',
    },
    steps: [
      ['start', 0, /^$/],
      ['list-units --all --plain --no-legend sc-tick.service', 0, /^$/],
    ],
    becomes: ['loaded', 'active', 'waiting', 'success', 'static'],
  },
];

/** What `systemctl show` must be asked for, to see what a case expects. */
export const CASE_PROPERTIES = ['LoadState', 'ActiveState', 'SubState', 'Result', 'UnitFileState'] as const;
