import { lastLine } from '../lib/machine-text.js';
import { clockDifference } from './clock-offset.js';
import { failure, type LoginSettings, type MachineProblem, warning } from './machine-problem.js';

/** The use of a disk from which on it is reported, in percent. */
const NEARLY_FULL = 90;

/** What a program on a machine has printed, and its exit status; undefined when a signal ended it. */
interface Ran {
  status: number | undefined;
  stdout: string;
  stderr: string;
  /** When it was sent and when its result was there, in milliseconds since the epoch. */
  askedAt: number;
  answeredAt: number;
}

/** A command that actions need on machines. */
export interface Ability {
  argv: readonly [string, ...string[]];
  /** What to do when the program is not there. */
  install: string;
  /** What its result says. */
  problem: (ran: Ran, settings: LoginSettings) => MachineProblem | undefined;
  /** The problem when it does not end in time: its remedy also says what works without it. */
  hung: (reason: string) => MachineProblem;
}

const INSTALL_TOOLS = 'install it there (GNU coreutils, or busybox)';

/**
 * The first one also shows whether commands run at all. The second one, for the clock, is to run alone on an open connection,
 * so that it takes no time to wait for others.
 */
export const ABILITIES: readonly [Ability, Ability, ...Ability[]] = [
  {
    argv: ['cat', '/proc/loadavg', '/proc/meminfo', '/proc/uptime'],
    install: INSTALL_TOOLS,
    problem: procProblem,
    hung: (reason) =>
      failure(
        reason,
        'look for hung processes on HOST (ps -eo pid,stat,wchan:32,args), or restart the machine',
      ),
  },
  {
    argv: ['date', '+%s.%N'],
    install: INSTALL_TOOLS,
    problem: clockProblem,
    hung: (reason) => warning(reason, 'check `date` on HOST; the actions do not need it'),
  },
  // journald writes entries of its own: there is always one to read.
  {
    argv: ['journalctl', '--unit=systemd-journald.service', '--no-pager', '--lines=1', '--output=short'],
    install: 'install systemd there',
    problem: journalProblem,
    hung: (reason) =>
      failure(
        reason,
        'check the disk of the journal on HOST, and its size (journalctl --disk-usage, --vacuum-size=); until then no logs of this machine can be read',
      ),
  },
  {
    argv: ['df', '-P', '-m', '/var/lib/docker'],
    install: INSTALL_TOOLS,
    problem: diskProblem,
    hung: (reason) =>
      warning(
        reason,
        'check the file system of /var/lib/docker on HOST, as a network or a disk that does not respond makes df wait; only the use of this disk is missing from the facts of the machine',
      ),
  },
  {
    argv: ['cat', '/etc/os-release'],
    install: INSTALL_TOOLS,
    problem: osProblem,
    hung: (reason) =>
      warning(
        reason,
        'check the file system of /etc on HOST; only the operating system is missing from the facts of the machine',
      ),
  },
  {
    argv: ['docker', 'version'],
    install: 'without it no version of Docker is shown',
    problem: dockerProblem,
    hung: (reason) =>
      warning(
        reason,
        'check the daemon of Docker on HOST: systemctl status docker; only the versions of Docker are missing from the facts of the machine',
      ),
  },
];

/** What is wrong with a machine on which this program ended so. */
export function problemOfRun(
  { argv: [program], install, problem, hung }: Ability,
  ran: Ran,
  settings: LoginSettings,
): MachineProblem | undefined {
  if (!isMissing(ran)) return problem(ran, settings);
  return { ...hung(`${program} is not installed`), remedy: install };
}

/** timeout(1) says so. A program that is a script may itself end with 127, when a program that it runs is missing. */
function isMissing({ status, stderr }: Ran): boolean {
  return status === 127 && lastLine(stderr).startsWith('timeout: ');
}

function procProblem({ status, stderr }: Ran): MachineProblem | undefined {
  return status === 0
    ? undefined
    : failure(`/proc cannot be read: ${lastLine(stderr)}`, 'check that HOST is a Linux machine with /proc');
}

function clockProblem({ stdout, askedAt, answeredAt }: Ran): MachineProblem | undefined {
  // busybox prints `%N` as it is. More digits are no time, and could make an endless number.
  const [, whole, fraction] = /^(\d{1,12})(?!\d)(?:\.(\d{3}))?/.exec(stdout) ?? [];
  if (whole === undefined)
    return warning('the time of its clock is not known', 'check that `date +%s.%N` works there');
  const time = Number(whole) * 1_000 + Number(fraction ?? 0);
  const precisionMs = fraction === undefined ? 1_000 : 1;
  const difference = clockDifference({ time, precisionMs, askedAt, answeredAt });
  return difference === undefined
    ? undefined
    : warning(
        `its clock is ${difference}`,
        'synchronize both clocks by NTP (timedatectl status); first find out which one is wrong',
      );
}

function journalProblem(
  { status, stdout, stderr }: Ran,
  { user, sudo }: LoginSettings,
): MachineProblem | undefined {
  // Without rights on the system's journal, journalctl may succeed with the entries of the user alone.
  if (/insufficient permissions|not seeing messages from other users/.test(stderr))
    return failure(
      `${user} may not read the journal`,
      `add ${user} to a group that may: sudo usermod -aG systemd-journal ${user}${sudo ? '' : '; or set SSH_SUDO=true'}`,
    );
  if (status !== 0)
    return failure(
      `the journal cannot be read: ${lastLine(stderr)}`,
      'try `journalctl --lines=1` on the machine',
    );
  const entries = stdout.split('\n').filter((line) => line !== '' && !line.startsWith('-- '));
  return entries.length > 0
    ? undefined
    : warning(
        'the journal has no entry of journald, so it may have none of units either',
        'check Storage= in journald.conf there, and `journalctl --lines=1`',
      );
}

/** Reads the output of `df -P`: a header, then one line with the columns that POSIX defines. */
function diskProblem({ status, stdout, stderr }: Ran): MachineProblem | undefined {
  if (status !== 0)
    return warning(
      `the disk of /var/lib/docker is not known: ${lastLine(stderr)}`,
      'without Docker this folder does not exist; its disk use is then not shown',
    );
  const [, percent, mount] = /\s(\d{1,3})%\s+(\S+)\s*$/.exec(stdout) ?? [];
  if (percent === undefined)
    return warning(
      'the use of the disk of /var/lib/docker is not known',
      'check that `df -P -m` works there',
    );
  return Number(percent) < NEARLY_FULL
    ? undefined
    : warning(
        `the disk ${mount}, which holds /var/lib/docker, is ${percent}% full`,
        'remove unused images and containers (docker system df), or old journal files (journalctl --vacuum-size=)',
      );
}

function osProblem({ status, stderr }: Ran): MachineProblem | undefined {
  return status === 0
    ? undefined
    : warning(
        `the operating system is not known: ${lastLine(stderr)}`,
        'link /etc/os-release to /usr/lib/os-release there',
      );
}

function dockerProblem({ status, stderr }: Ran, { user, sudo }: LoginSettings): MachineProblem | undefined {
  if (status === 0) return undefined;
  const reason = lastLine(stderr);
  if (/permission denied/i.test(stderr))
    return warning(
      `${user} may not use docker: ${reason}`,
      `add ${user} to the group docker: sudo usermod -aG docker ${user}${sudo ? '' : '; or set SSH_SUDO=true'}`,
    );
  return warning(`docker does not work: ${reason}`, 'check its daemon: systemctl status docker');
}
