/** The properties in what `systemctl show` prints of one unit: `Name=value` lines. */
export function shownProperties(text: string): ReadonlyMap<string, string> {
  const properties = new Map<string, string>();
  for (const line of text.split('\n')) {
    const at = line.indexOf('=');
    if (at > 0) properties.set(line.slice(0, at), line.slice(at + 1));
  }
  return properties;
}

/** A number of `systemctl show`; null: it is not set (`[not set]`, or before 239 the largest number of 64 bits). */
export function shownNumber(text: string | undefined): number | null {
  return text !== undefined && /^\d{1,15}$/.test(text) ? Number(text) : null;
}

/**
 * The paths of a property such as `DropInPaths`; null: it is not shown. systemd 252 puts a path with blanks or quotes in double quotes, as
 * a shell would read it.
 */
export function shownPaths(text: string | undefined): string[] | null {
  if (text === undefined) return null;
  return [...text.matchAll(/"((?:[^"\\]|\\.)*)"|\S+/g)].map(([word, quoted]) =>
    quoted === undefined ? word : quoted.replace(/\\(.)/g, '$1'),
  );
}
