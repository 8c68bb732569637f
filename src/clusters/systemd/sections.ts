/**
 * The parts of what a script has printed, each after a line `MARK NAME`, where MARK is a word that nobody can guess.
 * @param names in the order in which the script prints them, to the last one, which shows that nothing was cut off
 * @throws Error that names the first one that is missing
 */
export function sectionsOf<Name extends string>(
  output: string,
  mark: string,
  names: readonly Name[],
): Record<Name, string> {
  const sections: Partial<Record<Name, string>> = {};
  let from = 0;
  let open: Name | undefined;
  for (const name of names) {
    const head = `\n${mark} ${name}\n`;
    const at = output.indexOf(head, from);
    if (at < 0) throw new Error(`its answer has no part '${name}'`);
    if (open !== undefined) sections[open] = output.slice(from, at);
    open = name;
    from = at + head.length;
  }
  if (open !== undefined) sections[open] = output.slice(from);
  return sections as Record<Name, string>;
}
