import type { UnitOption } from './fleet-transport.js';

/**
 * The options of a unit file, as systemd reads it (systemd.syntax(7)): an assignment for each line, within the section before it. Blank
 * lines and lines that begin with `#` or `;` say nothing. A line that ends with `\` continues on the next one, comments between them left
 * out; the backslash becomes a blank. What is neither a section nor an assignment is left out too, as systemd only warns of it.
 */
export function unitFileOptions(text: string): UnitOption[] {
  const options: UnitOption[] = [];
  let section = '';
  for (const line of wholeLines(text)) {
    const head = /^\[(.*)\]$/.exec(line);
    if (head !== null) {
      section = head[1] ?? '';
      continue;
    }
    const at = line.indexOf('=');
    if (at <= 0 || section === '') continue;
    options.push({ section, name: line.slice(0, at).trimEnd(), value: line.slice(at + 1).trimStart() });
  }
  return options;
}

/** The lines that say something, joined where they continue, without blanks around them. */
function* wholeLines(text: string): Generator<string> {
  let begun: string | undefined;
  for (const raw of text.replace(/^\uFEFF/, '').split(/\r?\n/)) {
    const line = raw.trimStart();
    if (/^[#;]/.test(line)) continue;
    // Two of them are an escaped backslash.
    const continues = (/\\*$/.exec(line)?.[0].length ?? 0) % 2 === 1;
    const part = continues ? `${line.slice(0, -1)} ` : line;
    const whole: string = begun === undefined ? part : `${begun}${part}`;
    if (continues) begun = whole;
    else {
      begun = undefined;
      if (whole.trim() !== '') yield whole.trim();
    }
  }
  if (begun !== undefined && begun.trim() !== '') yield begun.trim();
}
