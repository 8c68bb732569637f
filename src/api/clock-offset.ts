import type { MachineTime } from './together-script.js';

/** How far the clock of a machine is ahead of that of this service, in milliseconds; negative: behind. */
export interface ClockOffset {
  offset_ms: number;
  /** By how much this may be wrong in either direction. */
  uncertainty_ms: number;
}

export interface ClockReadings {
  /** The machine's time before its programs, and after them. */
  began: MachineTime | undefined;
  ended: MachineTime | undefined;
  /** This service's time before the call and after it, in milliseconds since the epoch. */
  askedAt: number;
  answeredAt: number;
}

/**
 * How far the machine's clock is ahead of that of this service. The time between asking and the first reading, and between the last
 * reading and the answer, was at least 0: this bounds the offset from both sides, as in NTP (RFC 5905, section 8). How long the
 * programs ran does not matter.
 * @returns undefined when the readings contradict each other, since a clock was set meanwhile, or when there is none
 */
export function clockOffset({ began, ended, askedAt, answeredAt }: ClockReadings): ClockOffset | undefined {
  const last = ended ?? began;
  if (began === undefined || last === undefined) return undefined;
  const most = began.ms + began.precisionMs - askedAt;
  // This service's clock is read in whole milliseconds.
  const least = last.ms - (answeredAt + 1);
  if (least > most) return undefined;
  return { offset_ms: Math.round((least + most) / 2), uncertainty_ms: Math.ceil((most - least) / 2) };
}
