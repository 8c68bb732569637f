/**
 * The variables of an os-release file, as a shell that reads the file assigns them; the last assignment of a name counts.
 * Nothing is expanded: os-release(5) allows no other feature of a shell. A line that is not only assignments is left out.
 */
export function readAssignments(file: string): Map<string, string> {
  const text = file.replace(/^\u{feff}/u, '').replace(/\r(?=\n|$)/g, '');
  const variables = new Map<string, string>();
  let at = 0;
  while (at < text.length) {
    const line = readLine(text, at);
    for (const [name, value] of line.assignments) variables.set(name, value);
    at = line.end;
  }
  return variables;
}

interface Line {
  assignments: [name: string, value: string][];
  /** Where the next line begins. */
  end: number;
}

/** Reads a line, and further ones when a quoted value has line breaks. */
function readLine(text: string, start: number): Line {
  const assignments: [string, string][] = [];
  let at = start;
  for (;;) {
    at += lengthOf(/[ \t;]*/y, text, at);
    at += lengthOf(/#[^\n]*/y, text, at);
    if (at >= text.length || text[at] === '\n') return { assignments, end: at + 1 };
    const name = /[A-Za-z_][A-Za-z0-9_]*(?==)/y;
    name.lastIndex = at;
    const found = name.exec(text)?.[0];
    const word = found === undefined ? undefined : readWord(text, at + found.length + 1);
    // Not an assignment, but a command; or a quote without an end.
    if (found === undefined || word === undefined) return { assignments: [], end: endOfLine(text, at) };
    assignments.push([found, word.value]);
    at = word.end;
  }
}

/** Reads a value; undefined when a quote has no end. */
function readWord(text: string, start: number): { value: string; end: number } | undefined {
  let value = '';
  let at = start;
  for (;;) {
    const plain = lengthOf(/[^ \t\n;'"\\]+/y, text, at);
    value += text.slice(at, at + plain);
    at += plain;
    const next = text[at];
    if (next === "'") {
      const end = text.indexOf("'", at + 1);
      if (end < 0) return undefined;
      value += text.slice(at + 1, end);
      at = end + 1;
    } else if (next === '"') {
      const quoted = /"((?:[^"\\]|\\[^])*)"/y;
      quoted.lastIndex = at;
      const [whole, inner] = quoted.exec(text) ?? [];
      if (whole === undefined || inner === undefined) return undefined;
      // In double quotes a backslash quotes only these; before a line break it joins the lines.
      value += inner.replace(/\\([$`"\\\n])/g, (_all, quotedCharacter: string) =>
        quotedCharacter.trimStart(),
      );
      at += whole.length;
    } else if (next === '\\') {
      value += (text[at + 1] ?? '').replace('\n', '');
      at += 2;
    } else {
      return { value, end: at };
    }
  }
}

function lengthOf(pattern: RegExp, text: string, at: number): number {
  pattern.lastIndex = at;
  return pattern.exec(text)?.[0].length ?? 0;
}

function endOfLine(text: string, at: number): number {
  const end = text.indexOf('\n', at);
  return end < 0 ? text.length : end + 1;
}
