/**
 * Finds the most similar of the known words, to suggest a correction for a mistyped one; undefined when none is
 * similar.
 */
export function closestMatch(word: string, words: readonly string[]): string | undefined {
  const [first] = words
    .map((each) => ({ each, changes: changesBetween(word, each) }))
    .toSorted((a, b) => a.changes - b.changes);
  // With more differences it is a different word, not a typing mistake.
  return first !== undefined && first.changes <= Math.max(1, word.length / 3) ? first.each : undefined;
}

/** The Levenshtein distance; two swapped letters count as two changes. */
function changesBetween(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (const [i, letter] of a.split('').entries()) {
    const next = [i + 1];
    for (let j = 1; j <= b.length; j++) {
      const replaced = (row[j - 1] ?? 0) + (letter === b[j - 1] ? 0 : 1);
      next.push(Math.min(replaced, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1));
    }
    row = next;
  }
  return row.at(-1) ?? 0;
}
