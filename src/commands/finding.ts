import { reasonOf } from '../lib/errors.js';
import { printable } from '../lib/printable.js';
import { systemClock } from '../lib/clock.js';
import { runWithin } from '../lib/time-limit.js';
import { untilAborted } from '../lib/until-aborted.js';
import { painted, type Tone } from './table/tone.js';

const MAX_SHOWN = 10;
/** The limit for a line of a finding, in characters: it may quote what a server or a machine said. */
const MAX_LINE = 2_000;

/** The result of one check of `doctor`. */
export interface Finding {
  /**
   * `warning`: it works, but it needs attention. `skipped`: it could not be checked, or there is nothing to check. Neither is
   * a failure.
   */
  result: 'ok' | 'warning' | 'FAILED' | 'skipped';
  /** Sentences for people, one per line. */
  lines: readonly string[];
}

export function ok(...lines: string[]): Finding {
  return { result: 'ok', lines };
}

/** @param remedy how to fix it; undefined: the reason already says so */
export function failed(reason: string, remedy?: string): Finding {
  return { result: 'FAILED', lines: remedy === undefined ? [reason] : [reason, `-> ${remedy}`] };
}

export function warned(lines: readonly string[]): Finding {
  return { result: 'warning', lines };
}

export function skipped(reason: string): Finding {
  return { result: 'skipped', lines: [reason] };
}

/**
 * Runs a check under a time limit. The finding is a failure when the check throws or takes longer.
 * @param remedy how to fix a failure
 * @param check must release all its resources when its signal is aborted. The signal is aborted at the time limit and when
 *   the check ends.
 */
export async function runCheck(
  limitMs: number,
  remedy: (error: unknown) => string,
  check: (signal: AbortSignal) => Promise<Finding>,
): Promise<Finding> {
  const ended = new AbortController();
  const reason = () => new Error(`no response within ${limitMs / 1_000} s`);
  const limit = { ms: limitMs, clock: systemClock, reason, signal: ended.signal };
  try {
    return await runWithin(limit, (signal) =>
      untilAborted(check(signal), signal).finally(() => ended.abort()),
    );
  } catch (error) {
    return failed(reasonOf(error), remedy(error));
  }
}

/** The same finding with lines of limited length. */
export function shortened({ result, lines }: Finding): Finding {
  return {
    result,
    lines: lines.map((line) => (line.length > MAX_LINE ? `${line.slice(0, MAX_LINE)}...` : line)),
  };
}

const TONES: Readonly<Record<Finding['result'], Tone | undefined>> = {
  ok: 'good',
  warning: 'between',
  FAILED: 'bad',
  skipped: undefined,
};

/**
 * Formats a finding for printing: the first line beside the name of the check, the others below. Nothing that it quotes can control
 * a terminal.
 */
export function formatFinding(name: string, { result, lines }: Finding, { colours = false } = {}): string {
  const tone = TONES[result];
  const margin = `${result.padEnd(7)} ${name.padEnd(13)} `;
  const shown = colours && tone !== undefined ? margin.replace(result, painted(result, tone)) : margin;
  // The lines may quote a server. Line breaks are kept.
  const plain = lines.flatMap((line) => line.trim().split('\n')).map((line) => printable(line.trimEnd()));
  return plain.map((line, index) => `${index === 0 ? shown : ' '.repeat(margin.length)}${line}\n`).join('');
}

/** `1 queue`, `3 queues`. */
export function counted(count: number, what: string): string {
  return `${count} ${what}${count === 1 ? '' : 's'}`;
}

/** The first items of a list, and the number of the others. */
export function listed(items: readonly (string | number)[], others = 0): string {
  const more = Math.max(0, items.length - MAX_SHOWN) + others;
  return `${items.slice(0, MAX_SHOWN).join(', ')}${more > 0 ? ` and ${more} more` : ''}`;
}
