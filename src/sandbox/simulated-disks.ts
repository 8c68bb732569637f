import { seedOf } from './hash-number.js';
import type { CommandResult, SimulatedMachine } from './simulated-machine.js';

/** All on one disk, as on CoreOS. */
const FOLDERS: ReadonlySet<string> = new Set(['/', '/var', '/var/lib/docker']);
const DEVICE = '/dev/sda9';
const MOUNT = '/';
const COLUMNS = {
  '-m': ['1048576-blocks', 'Used', 'Available', 'Capacity'],
  '-k': ['1024-blocks', 'Used', 'Available', 'Capacity'],
  '-i': ['Inodes', 'IUsed', 'IFree', 'IUse%'],
} as const;

/**
 * Simulates GNU `df -P UNIT FOLDER...`, where UNIT is `-m`, `-k` or `-i`, in the format that POSIX defines for `df -P`.
 * @returns undefined for other options
 */
export function diskFree(
  [posix, unit, ...folders]: readonly string[],
  machine: SimulatedMachine,
): CommandResult | undefined {
  if (posix !== '-P' || (unit !== '-m' && unit !== '-k' && unit !== '-i') || folders.length === 0)
    return undefined;
  const missing = folders.filter((folder) => !FOLDERS.has(folder));
  const row = [DEVICE, ...numbersIn(unit, machine), MOUNT];
  const rows = folders.filter((folder) => FOLDERS.has(folder)).map(() => row);
  const lines = [['Filesystem', ...COLUMNS[unit], 'Mounted on'], ...rows].map(lineOf);
  return {
    status: missing.length === 0 ? 0 : 1,
    stdout: rows.length === 0 ? '' : lines.join(''),
    stderr: missing.map((folder) => `df: ${folder}: No such file or directory\n`).join(''),
  };
}

function numbersIn(unit: keyof typeof COLUMNS, { id, diskMb, diskUsePercent }: SimulatedMachine): string[] {
  if (unit === '-i') {
    const total = diskMb * 60;
    const percent = 3 + (seedOf(id) % 20);
    const used = Math.floor((total * percent) / 100);
    return [String(total), String(used), String(total - used), `${percent}%`];
  }
  const scale = unit === '-k' ? 1_024 : 1;
  // Some blocks are reserved for root; df counts them neither as used nor as available.
  const usable = Math.floor(diskMb * 0.95);
  // df rounds the percentage up.
  const used = Math.floor((usable * diskUsePercent) / 100);
  return [...[diskMb, used, usable - used].map((size) => String(size * scale)), `${diskUsePercent}%`];
}

/** With the column widths of GNU df. */
function lineOf([
  device = '',
  size = '',
  taken = '',
  free = '',
  percent = '',
  mount = '',
]: readonly string[]) {
  const columns = [
    device.padEnd(14),
    size.padStart(14),
    taken.padStart(6),
    free.padStart(9),
    percent.padStart(8),
  ];
  return `${[...columns, mount].join(' ')}\n`;
}
