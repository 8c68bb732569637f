/**
 * The parts of what a script has printed that are whole, each after a line `MARK NAME`, where MARK is a word that nobody can guess.
 * @param names in the order in which the script prints them
 * @returns also the first one that is missing; after it no more are looked for, and the part before it may be cut off and is left out
 */
export function wholeSections<Name extends string>(
  output: string,
  mark: string,
  names: readonly Name[],
): { sections: Partial<Record<Name, string>>; missing: Name | undefined } {
  const sections: Partial<Record<Name, string>> = {};
  let from = 0;
  let open: Name | undefined;
  for (const name of names) {
    const head = `\n${mark} ${name}\n`;
    const at = output.indexOf(head, from);
    if (at < 0) return { sections, missing: name };
    if (open !== undefined) sections[open] = output.slice(from, at);
    open = name;
    from = at + head.length;
  }
  if (open !== undefined) sections[open] = output.slice(from);
  return { sections, missing: undefined };
}

/**
 * All parts of what a script has printed.
 * @param names to the last one, which shows that nothing was cut off
 * @throws Error that names the first one that is missing
 */
export function sectionsOf<Name extends string>(
  output: string,
  mark: string,
  names: readonly Name[],
): Record<Name, string> {
  const { sections, missing } = wholeSections(output, mark, names);
  if (missing !== undefined) throw new Error(`its answer has no part '${missing}'`);
  return sections as Record<Name, string>;
}
