/** Where what grows is: the journal, and the images and volumes of containers. Those that are not there are left out. */
export const DISK_PATHS = ['/', '/var', '/var/lib/docker', '/var/lib/containers'] as const;

/** How full a file system is. */
export interface FileSystem {
  mount: string;
  /** Of its space, in percent, as df rounds it: up. */
  usedPercent: number;
  sizeKb: number;
  availableKb: number;
  /** Undefined: it has no fixed number of inodes, or df does not say it. */
  inodes: { usedPercent: number; total: number; free: number } | undefined;
}

/**
 * Reads what `df -P -k`, `df -P -i` and /proc/mounts say, each file system once. Those that are mounted to be read only are left out: an
 * image of the operating system is always full.
 * @returns undefined when df says nothing of any file system
 */
export function fileSystemsIn(blocks: string, inodes: string, mounts: string): FileSystem[] | undefined {
  const rows = rowsIn(blocks);
  if (rows.length === 0) return undefined;
  const readOnly = readOnlyMounts(mounts);
  const inodesOf = new Map(rowsIn(inodes).map((row) => [row.mount, row]));
  const devices = new Set<string>();
  const fileSystems: FileSystem[] = [];
  for (const { device, mount, total, available, usedPercent } of rows) {
    // Memory, and remote ones, have no device of their own.
    const key = device.startsWith('/') ? device : `${device} ${mount}`;
    if (usedPercent === undefined || devices.has(key) || readOnly.has(mount)) continue;
    devices.add(key);
    const of = inodesOf.get(mount);
    fileSystems.push({
      mount,
      usedPercent,
      sizeKb: total,
      availableKb: available,
      inodes:
        of?.usedPercent === undefined || of.total === 0
          ? undefined
          : { usedPercent: of.usedPercent, total: of.total, free: of.available },
    });
  }
  return fileSystems;
}

interface Row {
  device: string;
  total: number;
  available: number;
  /** Undefined: it has none. */
  usedPercent: number | undefined;
  mount: string;
}

const NUMBER = /^(?:-?\d{1,15}|-)$/;

/** The last six columns of each line are a device (which may have blanks), four numbers, and where it is mounted. */
function rowsIn(text: string): Row[] {
  return text.split('\n').flatMap((line) => {
    const columns = line.split(/ +/);
    const [total = '', used = '', available = '', percent = '', mount = ''] = columns.slice(-5);
    const isRow =
      [total, used, available].every((each) => NUMBER.test(each)) &&
      /^(?:\d{1,3}%|-)$/.test(percent) &&
      /^\/[\w/.-]*$/.test(mount);
    if (columns.length < 6 || !isRow) return [];
    return [
      {
        device: columns.slice(0, -5).join(' '),
        total: numberIn(total),
        available: numberIn(available),
        usedPercent: percent === '-' ? undefined : Number.parseInt(percent, 10),
        mount,
      },
    ];
  });
}

function numberIn(text: string): number {
  return text === '-' ? 0 : Number(text);
}

/** The last line of a mount point counts: it hides those before. */
function readOnlyMounts(text: string): Set<string> {
  const readOnly = new Set<string>();
  for (const line of text.split('\n')) {
    const [, mount = '', , options = ''] = line.split(' ', 4);
    if (options.split(',', 1)[0] === 'ro') readOnly.add(mount);
    else readOnly.delete(mount);
  }
  return readOnly;
}
