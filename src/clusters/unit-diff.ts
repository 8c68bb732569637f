import { whenUsed } from '../lib/when-used.js';

/** Lines that differ, removed and added; finding the fewest takes time that grows with the square: 400 take about 15 ms. */
const MOST_CHANGED_LINES = 400;
/** The longest difference, in characters. */
const LONGEST = 16 * 1024;

const loadDiff = whenUsed('diff');

/**
 * The difference of two texts of a unit's file, in the unified format with three lines around each change; null when they are the same.
 * Where more than 400 lines differ, all are removed and all are added. After 16,384 characters it is cut at the end of a line, and says so.
 * @param before null: there is no file yet
 */
export function unitDiff(unit: string, before: string | null, after: string): string | null {
  if (before === after) return null;
  const hunks = fewest(before ?? '', after) ?? `${fewest(before ?? '', '')}${fewest('', after)}`;
  return cut(`--- ${before === null ? '/dev/null' : unit}\n+++ ${unit}\n${hunks}`);
}

function fewest(before: string, after: string): string | undefined {
  const { createTwoFilesPatch, OMIT_HEADERS } = loadDiff();
  // To remove or to add all lines is found at once.
  const maxEditLength = before === '' || after === '' ? Number.POSITIVE_INFINITY : MOST_CHANGED_LINES;
  return createTwoFilesPatch('', '', before, after, '', '', {
    context: 3,
    headerOptions: OMIT_HEADERS,
    maxEditLength,
  });
}

function cut(diff: string): string {
  if (diff.length <= LONGEST) return diff;
  const whole = diff.slice(0, diff.lastIndexOf('\n', LONGEST) + 1);
  const left = diff.slice(whole.length).trimEnd().split('\n').length;
  return `${whole}\\ Cut: ${left} more lines\n`;
}
