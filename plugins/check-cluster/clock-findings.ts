import type { ClockOffset } from '../../src/plugin.js';
import type { MachineReport } from './ask-machines.js';
import type { Finding } from './finding.js';

/** How much clocks may differ, in milliseconds. */
const TOLERATED_MS = 1_000;
/** The clock of this service is one of those that are compared. */
const SERVICE: ClockOffset = { offset_ms: 0, uncertainty_ms: 0 };

/**
 * Clocks that differ from what most say by more than a second, also if the measurement was as wrong as it can be. That may be the clock of
 * this service, by which the others are measured.
 */
export function clockFindings(reports: readonly MachineReport[]): Finding[] {
  const measured = reports.flatMap(({ clock, ...machine }) =>
    clock === undefined ? [] : [{ ...machine, clock }],
  );
  const right = agreedOffset([SERVICE, ...measured.map(({ clock }) => clock)]);
  return [
    ...(isOff(SERVICE, right) ? [serviceIsOff(right, measured.length)] : []),
    ...measured
      .filter(({ clock }) => isOff(clock, right))
      .map(({ host, id, ownID, clock: { offset_ms, uncertainty_ms } }): Finding => {
        const ahead = offset_ms - right;
        return {
          severity: 'warning',
          kind: 'clock_off',
          subject: host,
          message: `The clock of ${host} is ${seconds(ahead)} ${ahead > 0 ? 'ahead of' : 'behind'} that of ${
            right === 0 ? 'this service' : 'most machines'
          } (± ${seconds(uncertainty_ms)})`,
          advice:
            'Look at its time synchronisation: timedatectl, and the state of systemd-timesyncd, chronyd or ntpd.',
          evidence: { machine_id: id ?? ownID ?? null, host, offset_ms: ahead, uncertainty_ms },
        };
      }),
  ];
}

/** The offset of the middle clock, where more than half of all agree with it; else that of this service. */
function agreedOffset(clocks: readonly ClockOffset[]): number {
  const sorted = clocks.map(({ offset_ms }) => offset_ms).toSorted((one, other) => one - other);
  const middle = sorted[Math.floor(sorted.length / 2)] ?? 0;
  if (!isOff(SERVICE, middle)) return 0;
  const agreeing = clocks.filter((clock) => !isOff(clock, middle)).length;
  return agreeing * 2 > clocks.length ? middle : 0;
}

function isOff({ offset_ms, uncertainty_ms }: ClockOffset, right: number): boolean {
  return Math.abs(offset_ms - right) - uncertainty_ms > TOLERATED_MS;
}

function serviceIsOff(right: number, machines: number): Finding {
  return {
    severity: 'warning',
    kind: 'clock_off',
    subject: 'this service',
    message: `The clock of the machine of this service is about ${seconds(right)} ${right < 0 ? 'ahead of' : 'behind'} that of most machines`,
    advice: 'Look at the time synchronisation where the service runs: timedatectl.',
    evidence: { machine_id: null, host: null, offset_ms: -right, machines },
  };
}

function seconds(ms: number): string {
  return `${(Math.abs(ms) / 1_000).toFixed(1)} s`;
}
