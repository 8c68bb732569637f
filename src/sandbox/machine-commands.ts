import { diskFree } from './simulated-disks.js';
import { type JournalSource, runJournalctl } from './simulated-journal.js';
import type { CommandResult, SimulatedMachine } from './simulated-machine.js';
import { hashNumber, seedOf } from './hash-number.js';
import { unitLines } from './simulated-units.js';

/**
 * Simulates the few commands that the actions of this project run on machines, with the output of CoreOS 1068.8.0,
 * and of Debian 12 where it differs.
 * Nothing is executed.
 * @returns undefined for any other command
 */
export function runCommand(
  [program, ...args]: readonly string[],
  machine: SimulatedMachine,
  context: { source: JournalSource; now: number },
): CommandResult | undefined {
  const line = args.join(' ');
  if (program === 'journalctl') return runJournalctl(args, machine, context);
  if (program === 'cat') return runCat(args, machine, context.now);
  if (program === 'date' && line === '+%s.%N') return dateText(context.now);
  if (program === 'df') return diskFree(args, machine);
  if (program === 'docker' && line === 'version') return dockerVersion(machine);
  if (program === 'update_engine_client' && line === '-status')
    return machine.os === 'coreos' ? updateStatus(machine) : notInstalled(program);
  if (program === 'podman' && line === 'version')
    return machine.os === 'debian' ? { status: 0, stdout: PODMAN } : notInstalled(program);
  if (program === 'systemctl' && line === LIST_FAILED) return failedUnits(machine, context.source);
  // Machines of fleet have it.
  if (program === 'ls' && line === '-A /run/fleet/units')
    return { status: 2, stderr: "ls: cannot access '/run/fleet/units': No such file or directory\n" };
  if (program === 'rpm-ostree') return notInstalled(program);
  return undefined;
}

/** The output of Podman in Debian 12. */
const PODMAN = `Client:       Podman Engine
Version:      4.3.1
API Version:  4.3.1
Go Version:   go1.19.8
Built:        Thu Jan  1 00:00:00 1970
OS/Arch:      linux/amd64
`;

/** As timeout(1) says it, which runs every command. */
function notInstalled(program: string): CommandResult {
  return {
    status: 127,
    stderr: `timeout: failed to run command '${program}': No such file or directory\n`,
  };
}

const LIST_FAILED = 'list-units --state=failed --full --plain --no-legend --no-pager';

function failedUnits({ id }: SimulatedMachine, source: JournalSource): CommandResult {
  const failed = source
    .states()
    .filter(({ machineID, systemdActiveState }) => machineID === id && systemdActiveState === 'failed');
  const rows = failed.map(({ name, systemdLoadState, systemdSubState }) => ({
    name,
    load: systemdLoadState ?? '',
    systemd: ['failed', systemdSubState ?? ''] as const,
    description: descriptionOf(source.unit(name)) ?? name,
  }));
  return { status: 0, stdout: unitLines(rows) };
}

function descriptionOf(unit: ReturnType<JournalSource['unit']>): string | undefined {
  if (unit === undefined || unit === 'poisoned') return undefined;
  return unit.options.find(({ section, name }) => section === 'Unit' && name === 'Description')?.value;
}

/** It names no version, also while it waits for a reboot: so it was until 2017 (coreos/update_engine, pull request 137). */
function updateStatus({ bootedAt, id }: SimulatedMachine): CommandResult {
  const checkedAt = Math.floor(bootedAt / 1_000) + 600 + (seedOf(id) % 2_400);
  return {
    status: 0,
    stdout: `LAST_CHECKED_TIME=${checkedAt}
PROGRESS=0.000000
CURRENT_OP=UPDATE_STATUS_IDLE
NEW_VERSION=0.0.0.0
NEW_SIZE=0
`,
  };
}

/** What a file of a machine contains; undefined: the simulation does not have it. */
export function fileText(path: string, machine: SimulatedMachine, now: number): string | undefined {
  return FILES.get(path)?.(machine, now);
}

function runCat(paths: readonly string[], machine: SimulatedMachine, now: number): CommandResult | undefined {
  const texts = paths.map((path) => fileText(path, machine, now));
  if (texts.length === 0 || texts.includes(undefined)) return undefined;
  return { status: 0, stdout: texts.join('') };
}

function dateText(now: number): CommandResult {
  const milliseconds = String(now % 1_000).padStart(3, '0');
  return { status: 0, stdout: `${Math.floor(now / 1_000)}.${milliseconds}000000\n` };
}

const FILES: ReadonlyMap<string, (machine: SimulatedMachine, now: number) => string> = new Map([
  ['/etc/machine-id', ({ id }) => `${id}\n`],
  ['/etc/os-release', ({ os }) => OS_RELEASES[os]],
  ['/proc/loadavg', loadText],
  ['/proc/meminfo', memoryText],
  ['/proc/sys/kernel/random/boot_id', bootIDText],
  ['/proc/mounts', ({ os }) => MOUNTS[os]],
  ['/proc/uptime', uptimeText],
]);

const OS_RELEASES: Readonly<Record<SimulatedMachine['os'], string>> = {
  coreos: `NAME=CoreOS
ID=coreos
VERSION=1068.8.0
VERSION_ID=1068.8.0
BUILD_ID=2016-07-18-0616
PRETTY_NAME="CoreOS 1068.8.0 (MoreOS)"
ANSI_COLOR="1;32"
HOME_URL="https://coreos.com/"
BUG_REPORT_URL="https://github.com/coreos/bugs/issues"
`,
  debian: `PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"
NAME="Debian GNU/Linux"
VERSION_ID="12"
VERSION="12 (bookworm)"
VERSION_CODENAME=bookworm
ID=debian
HOME_URL="https://www.debian.org/"
SUPPORT_URL="https://www.debian.org/support"
BUG_REPORT_URL="https://bugs.debian.org/"
`,
};

/** The output of docker 1.10.3 for the client and for the server; in CoreOS the build time is empty. */
const DOCKER_PART = ` Version:      1.10.3
 API version:  1.22
 Go version:   go1.5.4
 Git commit:   1f8f545
 Built:        
 OS/Arch:      linux/amd64
`;

function dockerVersion({ dockerRuns }: SimulatedMachine): CommandResult {
  if (dockerRuns) return { status: 0, stdout: `Client:\n${DOCKER_PART}\nServer:\n${DOCKER_PART}` };
  return {
    status: 1,
    stdout: `Client:\n${DOCKER_PART}`,
    stderr: 'Cannot connect to the Docker daemon. Is the docker daemon running on this host?\n',
  };
}

const BASIC_MOUNTS = `sysfs /sys sysfs rw,nosuid,nodev,noexec,relatime 0 0
proc /proc proc rw,nosuid,nodev,noexec,relatime 0 0
tmpfs /run tmpfs rw,nosuid,nodev,mode=755 0 0
/dev/sda9 / ext4 rw,relatime 0 0
`;
/** /usr of CoreOS is an image that is only read. */
const MOUNTS: Readonly<Record<SimulatedMachine['os'], string>> = {
  coreos: `${BASIC_MOUNTS}/dev/mapper/usr /usr ext4 ro,relatime,block_validity 0 0\n`,
  debian: BASIC_MOUNTS,
};

function loadText({ id, cpus }: SimulatedMachine, now: number): string {
  const minute = Math.floor(now / 60_000);
  const load = (minutes: number) =>
    (((hashNumber(seedOf(id) ^ Math.floor(minute / minutes)) % 100) / 100) * cpus * 0.6).toFixed(2);
  return `${load(1)} ${load(5)} ${load(15)} 1/${180 + (seedOf(id) % 90)} ${1_000 + (hashNumber(minute) % 30_000)}\n`;
}

function memoryText({ id, memoryKb }: SimulatedMachine): string {
  const used = 0.3 + (seedOf(id) % 40) / 100;
  const available = Math.floor(memoryKb * (1 - used));
  const rows: readonly (readonly [name: string, kilobytes: number])[] = [
    ['MemTotal', memoryKb],
    ['MemFree', Math.floor(available * 0.3)],
    ['MemAvailable', available],
    ['Buffers', Math.floor(available * 0.08)],
    ['Cached', Math.floor(available * 0.6)],
    ['SwapCached', 0],
    ['SwapTotal', 0],
    ['SwapFree', 0],
  ];
  return rows
    .map(([name, kilobytes]) => `${`${name}:`.padEnd(15)} ${String(kilobytes).padStart(8)} kB\n`)
    .join('');
}

function uptimeText({ bootedAt, cpus }: SimulatedMachine, now: number): string {
  const seconds = (now - bootedAt) / 1_000;
  return `${seconds.toFixed(2)} ${(seconds * cpus * 0.8).toFixed(2)}\n`;
}

/** Another one for each boot, in the form of a UUID. */
function bootIDText({ id, bootedAt }: SimulatedMachine): string {
  const hex = [1, 2, 3, 4].map((part) =>
    seedOf(id, String(bootedAt), String(part)).toString(16).padStart(8, '0'),
  );
  return `${hex.join('').replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-')}\n`;
}
