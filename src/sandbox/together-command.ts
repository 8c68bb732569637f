import type { TogetherCommand } from '../api/together-script.js';
import type { CommandAnswer } from './scripted-commands.js';

/** The exit status of timeout(1) when the limit is reached. */
const ENDED_BY_LIMIT = 124;

/**
 * How a machine answers a command that runs programs together.
 * @param answers how each of them ends, in their order
 * @param now when they begin, in milliseconds since the epoch
 */
export function togetherAnswer(
  { mark, seconds, bytes }: TogetherCommand,
  answers: readonly CommandAnswer[],
  now: number,
): CommandAnswer {
  const limitMs = seconds * 1_000;
  const delays = answers.map(({ delayMs = 0, hang = false }) => (hang ? Infinity : delayMs));
  const delayMs = Math.min(limitMs, Math.max(0, ...delays));
  const sections = answers.map(({ stdout = '', stderr = '', status = 0 }, number) => {
    const ended = (delays[number] ?? 0) > limitMs ? ENDED_BY_LIMIT : status;
    const section = Buffer.from(`${mark}o${number}\n${stdout}${mark}s${stderr}\n${ended}`);
    return section.subarray(0, bytes).toString();
  });
  const text = `${mark}b${timeOf(now)}\n${sections.join('')}${mark}e${timeOf(now + delayMs)}\n`;
  return { stdout: text, delayMs };
}

/** As `date +%s.%N` prints it. */
function timeOf(now: number): string {
  return `${Math.floor(now / 1_000)}.${String(now % 1_000).padStart(3, '0')}000000`;
}
