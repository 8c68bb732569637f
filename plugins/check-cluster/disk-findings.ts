import type { MachineReport } from './ask-machines.js';
import type { Finding } from './finding.js';

/** From here on in percent a file system is nearly full. */
const NEARLY_FULL = 90;
/** From here on programs fail. */
const FULL = 98;

/** File systems that are nearly full: of their space, or of their inodes, of which each file takes one. */
export function diskFindings(reports: readonly MachineReport[]): Finding[] {
  return reports.flatMap(({ host, id, ownID, fileSystems }) =>
    fileSystems.flatMap(({ mount, usedPercent, sizeKb, availableKb, inodes }) => {
      const machine_id = id ?? ownID ?? null;
      const of = { machine_id, host, mount };
      return [
        ...(usedPercent > NEARLY_FULL
          ? [
              finding({
                host,
                usedPercent,
                what: `of the disk that holds ${mount} are used`,
                advice:
                  'Remove what is not needed: images and volumes of containers (docker system df, podman system df), the journal (journalctl --vacuum-size), old files; or give it more space.',
                evidence: {
                  ...of,
                  of: 'space',
                  used_percent: usedPercent,
                  size_kb: sizeKb,
                  available_kb: availableKb,
                },
              }),
            ]
          : []),
        ...(inodes !== undefined && inodes.usedPercent > NEARLY_FULL
          ? [
              finding({
                host,
                usedPercent: inodes.usedPercent,
                what: `of the inodes of ${mount} are used: it can hold few more files`,
                advice:
                  'Find the folder with the most files (du --inodes), and remove what is not needed. The number of inodes of an ext4 cannot be changed: a larger one has more.',
                evidence: {
                  ...of,
                  of: 'inodes',
                  used_percent: inodes.usedPercent,
                  inodes: inodes.total,
                  free: inodes.free,
                },
              }),
            ]
          : []),
      ];
    }),
  );
}

function finding({
  host,
  usedPercent,
  what,
  ...rest
}: Pick<Finding, 'advice' | 'evidence'> & { host: string; usedPercent: number; what: string }): Finding {
  return {
    severity: usedPercent >= FULL ? 'error' : 'warning',
    kind: 'disk_nearly_full',
    subject: host,
    message: `On ${host} ${usedPercent} % ${what}`,
    ...rest,
  };
}
