import { runJournalctl, type JournalSource } from './simulated-journal.js';
import type { CommandResult, SimulatedMachine } from './simulated-machine.js';
import { hashNumber, seedOf } from './hash-number.js';

/**
 * Simulates the few commands that the actions of this project run on machines, with the output of CoreOS 1068.8.0.
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
  if (program === 'df' && line === '-P -m /var/lib/docker') return { status: 0, stdout: diskText(machine) };
  if (program === 'docker' && line === 'version') return dockerVersion(machine);
  return undefined;
}

function runCat(paths: readonly string[], machine: SimulatedMachine, now: number): CommandResult | undefined {
  const texts = paths.map((path) => FILES.get(path)?.(machine, now));
  if (texts.length === 0 || texts.includes(undefined)) return undefined;
  return { status: 0, stdout: texts.join('') };
}

function dateText(now: number): CommandResult {
  const milliseconds = String(now % 1_000).padStart(3, '0');
  return { status: 0, stdout: `${Math.floor(now / 1_000)}.${milliseconds}000000\n` };
}

const FILES: ReadonlyMap<string, (machine: SimulatedMachine, now: number) => string> = new Map([
  ['/etc/os-release', () => OS_RELEASE],
  ['/proc/loadavg', loadText],
  ['/proc/meminfo', memoryText],
  ['/proc/uptime', uptimeText],
]);

const OS_RELEASE = `NAME=CoreOS
ID=coreos
VERSION=1068.8.0
VERSION_ID=1068.8.0
BUILD_ID=2016-07-18-0616
PRETTY_NAME="CoreOS 1068.8.0 (MoreOS)"
ANSI_COLOR="1;32"
HOME_URL="https://coreos.com/"
BUG_REPORT_URL="https://github.com/coreos/bugs/issues"
`;

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

/** In the format that POSIX defines for `df -P`, with the column widths of GNU df. */
function diskText({ diskMb, diskUsePercent }: SimulatedMachine): string {
  // Some blocks are reserved for root; df counts them neither as used nor as available.
  const usable = Math.floor(diskMb * 0.95);
  // df rounds the percentage up.
  const used = Math.floor((usable * diskUsePercent) / 100);
  const rows = [
    ['Filesystem', '1048576-blocks', 'Used', 'Available', 'Capacity', 'Mounted on'],
    ['/dev/sda9', String(diskMb), String(used), String(usable - used), `${diskUsePercent}%`, '/'],
  ];
  return rows
    .map(([device = '', size = '', taken = '', free = '', percent = '', mount = '']) =>
      [
        device.padEnd(14),
        size.padStart(14),
        taken.padStart(6),
        free.padStart(9),
        percent.padStart(8),
        mount,
      ].join(' '),
    )
    .map((row) => `${row}\n`)
    .join('');
}

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
