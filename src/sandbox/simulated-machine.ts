import { scatter, seedOf } from './scatter.js';

/** The result of a command. */
export interface CommandResult {
  status: number;
  stdout?: string;
  stderr?: string;
}

/** The individual properties of a machine; the rest follows from its id. */
export interface MachineCondition {
  dockerRuns: boolean;
  /** Of the disk that holds /var/lib/docker. */
  diskUsePercent: number;
}

/** A simulated CoreOS machine. */
export interface SimulatedMachine extends MachineCondition {
  id: string;
  hostName: string;
  /** Milliseconds since the epoch. */
  bootedAt: number;
  cpus: number;
  memoryKb: number;
  diskMb: number;
}

const DAY = 86_400_000;

/**
 * Makes a machine, always the same for the same id and time.
 * @param condition left out: Docker runs, and the disk has room
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
    bootedAt: now - 3 * DAY - (scatter(seed) % (30 * DAY)),
    cpus: 2 * size,
    memoryKb: 2_050_000 * size + (seed % 3_000),
    diskMb: 17_041 * size,
    dockerRuns: true,
    diskUsePercent: 20 + (seed % 60),
    ...condition,
  };
}
