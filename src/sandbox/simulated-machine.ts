import { hashNumber, seedOf } from './hash-number.js';

/** The exit status and output of a command. */
export interface CommandResult {
  status: number;
  stdout?: string;
  stderr?: string;
}

/** The properties of a machine that can be set; the others are derived from its id. */
export interface MachineCondition {
  dockerRuns: boolean;
  /** Of the disk that holds /var/lib/docker. */
  diskUsePercent: number;
  os: 'coreos' | 'debian';
  hostName: string;
}

/** A simulated machine. */
export interface SimulatedMachine extends MachineCondition {
  id: string;
  /** Milliseconds since the epoch. */
  bootedAt: number;
  cpus: number;
  memoryKb: number;
  diskMb: number;
}

const DAY = 86_400_000;

/**
 * Simulates a machine, always the same for the same id and time.
 * @param condition by default it is a CoreOS machine, Docker runs, and the disk is not full
 */
export function simulatedMachine(
  id: string,
  now: number,
  condition: Partial<MachineCondition> = {},
): SimulatedMachine {
  const seed = seedOf(id);
  const size = 1 << (seed % 3);
  return {
    id,
    hostName: `core-${id.slice(0, 8)}`,
    bootedAt: now - 3 * DAY - (hashNumber(seed) % (30 * DAY)),
    cpus: 2 * size,
    memoryKb: 2_050_000 * size + (seed % 3_000),
    diskMb: 17_041 * size,
    os: 'coreos',
    dockerRuns: true,
    diskUsePercent: 20 + (seed % 60),
    ...condition,
  };
}
