/**
 * Replaces the generated lines of a page: those between `<!-- generated: NAME -->` and `<!-- end -->`.
 * @param lines without a line break at their ends
 * @returns the page; unchanged when it has no such block
 */
export function withBlock(page: string, name: string, lines: readonly string[]): string {
  const [begin, end] = [`<!-- generated: ${name} -->\n`, '<!-- end -->'];
  const from = page.indexOf(begin);
  if (from < 0) return page;
  const to = page.indexOf(end, from);
  if (to < 0) throw new Error(`the block ${name} has no end`);
  // Markdown reads a table that follows a comment without an empty line as part of it.
  return `${page.slice(0, from + begin.length)}\n${lines.join('\n')}\n\n${page.slice(to)}`;
}
